"""Features of videos, the suites of videos, and an evaluation from files to a number."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import select
from torch import nn

from evalsvc.builtin.extractors.video import I3D, FrameWise, ScriptedVideo
from evalsvc.core.errors import InputError
from evalsvc.evaluation import opening
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.references import add_reference
from evalsvc.inputs.sample_sets import open_samples
from evalsvc.inputs.suite_entries import ExtractorUse
from evalsvc.inputs.suites import Suite, load_suite
from evalsvc.integrations.python.given import prepare
from evalsvc.plugins.registry import Plugins
from evalsvc.plugins.samples import Images, Videos
from evalsvc.store.tables import Score

from ..inputs.video_files import STEP, write

CPU = torch.device("cpu")


def test_frames_are_pooled_by_mean_and_spread_over_time():
    pixels = torch.randint(0, 256, (3, 5, 1, 4, 4), dtype=torch.uint8)
    extractor = FrameWise(CPU, frames="pixels")
    assert FrameWise(CPU, frames="digits-cnn").info.backend == "torch-cpu", "arrays of other devices are kept apart"
    found = extractor.extract(Videos(pixels))["pixels"]
    frames = pixels.float().flatten(2) / 255
    assert torch.allclose(found, torch.cat([frames.mean(1), frames.std(1, correction=0)], 1), atol=1e-6)
    still = extractor.extract(Videos(pixels[:, :1].expand(-1, 5, -1, -1, -1)))["pixels"]
    assert still[:, 16:].abs().max() < 1e-6
    with pytest.raises(InputError, match="requires video samples"):
        extractor.extract(Images(pixels[:, 0]))


def test_frames_may_be_looked_at_by_an_extractor_from_a_file(tmp_path, context):
    (tmp_path / "mine.py").write_text(
        "from evalsvc import ExtractorInfo, register\n"
        "@register('extractors', 'peak')\n"
        "class Peak:\n"
        "    def __init__(self, device, by=1):\n"
        "        self.by, self.info = by, ExtractorInfo('peak', 'image', {'peak': 1}, 'none', f'maximum by {by}')\n"
        "    def extract(self, samples):\n"
        "        return {'peak': samples.pixels.flatten(1).amax(1, keepdim=True).float() * self.by}\n"
    )
    context.plugins = Plugins((tmp_path / "mine.py",))
    pixels = torch.randint(0, 256, (2, 3, 1, 4, 4), dtype=torch.uint8)
    found = {
        by: opening.extractor(
            context, ExtractorUse(use="frame-wise", options={"frames": "peak", "options": {"by": by}})
        )
        for by in (1, 2)
    }
    assert found[1].info.protocol != found[2].info.protocol
    expected = 2 * pixels.flatten(2).amax(2).float().mean(1)
    assert torch.allclose(found[2].extract(Videos(pixels))["peak"][:, 0], expected)
    with pytest.raises(InputError, match="there is no extractor 'peek'; the nearest are peak"):
        opening.extractor(context, ExtractorUse(use="frame-wise", options={"frames": "peek"}))


def test_a_scripted_network_is_called_with_arguments_as_fvds_i3d_wants_them(tmp_path):
    class Scorer(nn.Module):
        def forward(self, x, rescale: bool = False, return_features: bool = False):
            found = x.mean((2, 3, 4))
            return found if return_features else torch.softmax(found, 1)

    torch.jit.script(Scorer()).save(str(tmp_path / "i3d.pt"))
    named = {"path": str(tmp_path / "i3d.pt"), "width": 3, "side": 8}
    plain, asked = ScriptedVideo(CPU, **named), ScriptedVideo(CPU, **named, arguments={"return_features": True})
    pixels = torch.randint(0, 256, (11, 2, 3, 8, 8), dtype=torch.uint8)
    features = (pixels.float() / 127.5 - 1).mean((1, 3, 4))
    assert torch.allclose(asked.extract(Videos(pixels))["features"], features, atol=1e-5)
    assert torch.allclose(plain.extract(Videos(pixels))["features"], features.softmax(1), atol=1e-5)
    assert plain.info.protocol != asked.info.protocol


def test_a_scripted_video_network_is_given_clips_as_fvd_has_them(tmp_path):
    class Means(nn.Module):
        def forward(self, x):
            return x.mean((3, 4)).flatten(1)

    torch.jit.trace(Means(), torch.zeros(1, 3, 5, 16, 16)).save(str(tmp_path / "net.pt"))
    extractor = ScriptedVideo(CPU, path=str(tmp_path / "net.pt"), width=15, side=16)
    pixels = torch.randint(0, 256, (2, 5, 3, 16, 16), dtype=torch.uint8)
    expected = (pixels.float() / 127.5 - 1).mean((3, 4)).transpose(1, 2).flatten(1)
    assert torch.allclose(extractor.extract(Videos(pixels))["features"], expected, atol=1e-5)
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not a TorchScript file"):
        ScriptedVideo(CPU, path=str(tmp_path / "bad.pt"), width=1)


def bilinear(frame, side):
    """A channel, resized with half-pixel centers and repeated borders: as FVD's papers do, and written out."""
    for axis in (0, 1):
        size = frame.shape[axis]
        place = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, size - 1)
        weight = np.expand_dims(place - low, 1 - axis)
        frame = np.take(frame, low, axis) * (1 - weight) + np.take(frame, high, axis) * weight
    return frame


def test_the_features_of_fvd_are_those_of_an_independent_preparation_and_forward(tmp_path, monkeypatch):
    class Scorer(nn.Module):
        def forward(self, x, rescale: bool = True, resize: bool = True, return_features: bool = False):
            assert return_features
            assert not rescale
            assert not resize
            found = x[:, :, :, ::7, ::11].permute(0, 2, 3, 4, 1).flatten(1)[:, :400]
            return found * found + found

    monkeypatch.setenv("EVALSVC_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(InputError, match=r"'i3d' needs the network on which FVD is defined: put StyleGAN-V's i3d"):
        I3D(CPU)
    torch.jit.script(Scorer()).save(str(tmp_path / "i3d_torchscript.pt"))
    extractor = I3D(CPU, frames=2)
    assert (extractor.info.name, extractor.info.outputs) == ("i3d", {"features": 400})
    pixels = torch.randint(0, 256, (3, 2, 3, 24, 31), dtype=torch.uint8)
    resized = [[[bilinear(c.numpy() / 1.0, 224) for c in frame] for frame in clip] for clip in pixels]
    inputs = np.array(resized)[..., ::7, ::11].transpose(0, 1, 3, 4, 2).reshape(3, -1)[:, :400] / 127.5 - 1
    found = extractor.extract(Videos(pixels))["features"]
    assert np.abs(found.numpy() - (inputs * inputs + inputs)).max() < 1e-4
    with pytest.raises(InputError, match=r"requires clips of 2 frames \(got 5\): read them with the option frames=2"):
        extractor.extract(Videos(pixels[:, :1].expand(-1, 5, -1, -1, -1)))


def test_videos_in_memory_are_scored_like_an_array_of_them(tmp_path):
    pixels = torch.randint(0, 256, (2, 3, 3, 4, 4), dtype=torch.uint8)
    prepared = {prepare(given, None, "video", tmp_path).path for given in (Videos(pixels), pixels.numpy())}
    assert len(prepared) == 1
    assert torch.equal(open_samples(Path(prepared.pop())).read(0, 2).pixels, pixels)
    with pytest.raises(InputError, match=r"the array contains .* expected uint8 videos"):
        prepare(pixels.long(), None, "video", tmp_path)


def test_the_suites_of_videos_are_complete():
    fvd, frames = load_suite("fvd").on("clips"), load_suite("video-frames").on("clips")
    assert (fvd.modality, fvd.labels) == ("video", ("frechet_distance",))
    assert {"frechet_distance", "precision", "coverage"} <= set(frames.labels)


def test_videos_are_scored_from_files_to_numbers(tmp_path, context):
    """Frames of one level have equal features, so that the distance is one of two normal laws of one dimension."""
    levels = {"real": np.arange(24) % 12, "fake": np.arange(24) % 9 + 3}
    for name, starts in levels.items():
        (tmp_path / name).mkdir()
        for number, start in enumerate(starts):
            write(tmp_path / name / f"{number:02}.mp4", range(start, start + 4), size=(8, 8))
    (tmp_path / "fake" / "00.mp4").write_bytes(b"")
    reading = ReadingOptions(frames=2, fps=12.5)
    add_reference(context.database, context.plugins, "clips", tmp_path / "real", None, reading=reading)
    suite = load_suite("video-frames").on("clips").model_dump(exclude_unset=True)
    suite |= {"samples": 23, "shard": 10, "metrics": [{"metric": "frechet_distance", "features": "frames/pixels"}]}
    suite["extractors"] = {"frames": {"use": "frame-wise", "options": {"frames": "pixels"}}}
    options = {"frames": 2, "fps": 12.5, "skip": ["00.mp4"]}
    spec = plan(context, Checkpoint.open(tmp_path / "fake", "fake", 0), "samples", options, Suite.model_validate(suite))
    evaluation = evaluate(spec, context)
    with context.database.read() as session:
        (value,) = session.scalars(select(Score.value).where(Score.evaluation_id == evaluation))
    real, fake = (each * STEP / 255 for each in (levels["real"], levels["fake"][1:]))
    expected = 8 * 8 * 3 * ((real.mean() - fake.mean()) ** 2 + (real.std(ddof=1) - fake.std(ddof=1)) ** 2)
    assert value == pytest.approx(expected, rel=0.02)
