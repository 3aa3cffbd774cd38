"""Scorers of videos against facts, and against the sums of VBench written out."""

import math

import numpy as np
import pytest
import torch

from evalsvc.builtin.extractors.pixels import Pixels
from evalsvc.builtin.scorers.clip_score import ClipScore
from evalsvc.builtin.scorers.frame_consistency import FrameConsistency
from evalsvc.builtin.scorers.motion import Motion
from evalsvc.core.errors import InputError
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Images, Videos
from tests.evalsvc.builtin.test_image_scorers import CPU, Space, batch, noise


@pytest.fixture
def plugins():
    """The extractor ``space``: the levels of the first two pixels less 100."""
    every = Plugins()
    every.add(Plugin(PluginKind.EXTRACTOR, "space", "tests", "0", lambda: Space))
    return every


def clip(*frames):
    """A video of two pixels a frame."""
    return torch.tensor(frames, dtype=torch.uint8).view(1, len(frames), 1, 1, 2)


def consistency(plugins, pixels):
    scorer = FrameConsistency(CPU, extractor="space", output="embedding", plugins=plugins)
    outcome = scorer.score(Videos(pixels), batch(len(pixels)))
    return [each.tolist() for each in outcome.values.values()], outcome


# --- consistency ---


def test_a_static_video_is_consistent_and_has_no_motion():
    still = Videos(noise(2, 1, 3, 8, 8).expand(-1, 6, -1, -1, -1))
    outcome = FrameConsistency(CPU, extractor="pixels", output="pixels").score(still, batch(2))
    for values in outcome.values.values():
        assert values.tolist() == pytest.approx([1.0, 1.0])
    assert Motion(CPU).score(still, batch(2)).values["motion"].tolist() == [0.0, 0.0]


def test_frames_at_known_angles_have_known_cosines(plugins):
    """Frames at 0, 90 and 180 degrees: neighbors have cosine 0, and the last is opposite to the first."""
    values, _ = consistency(plugins, clip((200, 100), (100, 200), (0, 100)))
    assert values == [pytest.approx([0.0], abs=1e-12), pytest.approx([0.0], abs=1e-12)]
    values, _ = consistency(plugins, clip((200, 100), (200, 200), (0, 100)))
    neighbors = (math.sqrt(0.5), -math.sqrt(0.5))
    assert values == [[pytest.approx(sum(neighbors) / 2, abs=1e-12)], [pytest.approx(2 * neighbors[0] / 4)]]


def test_the_second_value_is_that_of_vbench():
    """Frame by frame, as ``subject_consistency`` of VBench sums."""
    videos, extractor = noise(3, 7, 3, 8, 8), Pixels(CPU)
    found = FrameConsistency(CPU, extractor="pixels", output="pixels").score(Videos(videos), batch(3))
    for row, video in enumerate(videos):
        features = torch.nn.functional.normalize(extractor.extract(Images(video))["pixels"], dim=-1)
        total = 0.0
        for i in range(1, len(video)):
            pairs = [torch.cosine_similarity(features[other], features[i], dim=0) for other in (i - 1, 0)]
            total += sum(max(0.0, float(pair)) for pair in pairs) / 2
        assert float(found.values["vbench_consistency"][row]) == pytest.approx(total / (len(video) - 1), abs=1e-6)


def test_order_matters_and_scale_of_features_does_not(plugins):
    smooth = clip((200, 100), (200, 150), (200, 200), (150, 200))
    shuffled = smooth[:, [0, 2, 1, 3]]
    assert consistency(plugins, smooth)[0][0] > consistency(plugins, shuffled)[0][0]
    near, far = clip((110, 120), (105, 110)), clip((200, 250), (150, 175))
    values = [consistency(plugins, torch.cat([near, far]))[0][quantity] for quantity in (0, 1)]
    assert values == [pytest.approx([1.0, 1.0])] * 2


def test_one_frame_and_features_without_direction_are_named_outcomes(plugins):
    values, outcome = consistency(plugins, clip((200, 100)))
    assert math.isnan(values[0][0])
    assert outcome.reasons == {0: "the video has one frame"}
    _, outcome = consistency(plugins, clip((200, 100), (100, 100)))
    assert outcome.reasons == {0: "the features of a frame have length 0 and no direction"}
    assert not outcome.failed


def test_only_extractors_of_images_look_at_frames():
    with pytest.raises(InputError, match="requires an image extractor for frames, but 'frame-wise' takes video"):
        FrameConsistency(CPU, extractor="frame-wise", output="pixels", options={"frames": "pixels"})
    with pytest.raises(InputError, match="'frame-consistency' requires video samples"):
        FrameConsistency(CPU, extractor="pixels", output="pixels").score(Images(noise(1, 1, 8, 8)), batch(1))


# --- motion ---


def test_a_ramp_moves_by_its_step_in_gray_and_in_color():
    ramp = (torch.arange(5) * 7).to(torch.uint8).view(1, 5, 1, 1, 1)
    for channels in (1, 3):
        outcome = Motion(CPU).score(Videos(ramp.expand(1, 5, channels, 4, 3)), batch(1))
        assert outcome.values["motion"].tolist() == [7.0]
    flicker = (torch.arange(6) % 2 * 255).to(torch.uint8).view(1, 6, 1, 1, 1)
    assert Motion(CPU).score(Videos(flicker), batch(1)).values["motion"].tolist() == [255.0]


def test_motion_is_what_the_temporal_flickering_of_vbench_lacks_to_1():
    videos = noise(2, 5, 3, 6, 7)
    found = Motion(CPU).score(Videos(videos), batch(2)).values["motion"].numpy()
    for value, video in zip(found, videos.numpy().astype(np.float32), strict=True):
        pairs = [np.mean(np.abs(video[i] - video[i + 1])) for i in range(len(video) - 1)]
        assert 1 - value / 255 == pytest.approx((255.0 - np.mean(pairs)) / 255.0, abs=1e-6)
    assert Motion(CPU).score(Videos(videos[:, :1]), batch(2)).reasons == dict.fromkeys(
        (0, 1), "the video has one frame"
    )
    with pytest.raises(InputError, match="'motion' requires video samples"):
        Motion(CPU).score(Images(videos[0]), batch(5))


# --- prompts ---


def test_the_clip_score_of_a_video_is_the_mean_of_its_frames(plugins):
    videos, prompts = noise(4, 5, 1, 1, 2), ("a", "abc", "", "a")
    scorer = ClipScore(CPU, extractor="space", frames=True, plugins=plugins)
    assert scorer.info.takes == {"video"}
    outcome = scorer.score(Videos(videos), batch(4, prompts=prompts))
    alone = ClipScore(CPU, extractor="space", plugins=plugins)
    for row in (0, 1, 3):
        frames = alone.score(Images(videos[row]), batch(5, prompts=(prompts[row],) * 5))
        expected = float(frames.values["clip_score"].mean())
        assert float(outcome.values["clip_score"][row]) == pytest.approx(expected)
    assert outcome.reasons == {2: "the item has no prompt"}
    with pytest.raises(InputError, match="'clip-score' requires video samples"):
        scorer.score(Images(videos[0]), batch(5, prompts=("a",) * 5))
    with pytest.raises(InputError, match="invalid option frames=2 of scorer 'clip-score'"):
        ClipScore(CPU, extractor="space", frames=2, plugins=plugins)
