"""Samples of every modality, from what an evaluation keeps of them to what a page shows."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from evalsvc.core.settings import Settings
from evalsvc.dashboards.pictures import Gallery, aligned, animation
from evalsvc.evaluation.gallery import GalleryCollector, joined
from evalsvc.plugins.samples import Audio, Videos
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.tables import Artifact

from .stores import HOSTILE, fill

TEXTS = ["Once upon a time there was a queue.", HOSTILE[0], HOSTILE[1]]
TONES = tuple(torch.sin(torch.arange(800) * pitch) for pitch in (0.1, 0.2, 0.3))
INDICES = {"indices": np.arange(3)}
CLIPS = torch.arange(3 * 4 * 3 * 8 * 8).remainder(256).to(torch.uint8).reshape(3, 4, 3, 8, 8)


@pytest.fixture
def keep(use_home, tmp_path):
    """Make two checkpoints whose evaluations kept these samples."""
    database = use_home(tmp_path)
    fill(database, ["one", "two"], range(0, 1000, 1000))

    def keep(samples):
        if isinstance(samples, list):
            arrays = {"texts": np.frombuffer(json.dumps(samples).encode(), np.uint8)}
        else:
            shown = GalleryCollector(0, 8)
            shown.add(samples)
            arrays = shown.arrays()
        with database.write() as session:
            for run in (1, 2):
                key = f"gallery-{run}.safetensors"
                open_artifacts(Settings()).write_arrays(key, joined([arrays | INDICES], 8)["gallery"])
                session.add(Artifact(evaluation_id=run, kind="gallery", path=key, digest="0" * 64, bytes=1))

    return keep


@pytest.mark.parametrize("view", ["samples", "checkpoint", "rate"])
def test_texts_are_read_as_written_and_never_as_markup(view, keep, page):
    keep(TEXTS)
    at = page(view, checkpoint="one@0") if view == "checkpoint" else page(view)
    assert not at.exception
    shown = "".join(element.proto.body for element in at.get("html"))
    if view != "rate":  # which shows one of them
        assert TEXTS[0] in shown
        assert "&lt;img src=x" in shown
    assert 'class="ev-text"' in shown
    assert "<img" not in shown


@pytest.mark.parametrize("view", ["samples", "checkpoint", "rate", "memorization"])
def test_a_damaged_gallery_is_a_sentence(view, keep, page, use_home, tmp_path):
    keep(TEXTS)
    with use_home(tmp_path).write() as session:
        session.add(Artifact(evaluation_id=1, kind="neighbours", path="gallery-1.safetensors", digest="0", bytes=1))
    path = open_artifacts(Settings()).local("gallery-1.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    at = page(view, checkpoint="one@0") if view in ("checkpoint", "memorization") else page(view)
    assert not at.exception
    (warning, *_) = at.warning
    assert "artifact gallery-1.safetensors is damaged" in warning.value


@pytest.mark.parametrize(("view", "players"), [("samples", 8), ("checkpoint", 3), ("rate", 2)])
def test_sounds_get_a_player_each(view, players, keep, page):
    keep(Audio(TONES, 8000))
    at = page(view, checkpoint="one@0") if view == "checkpoint" else page(view)
    assert not at.exception
    assert len(at.get("audio")) == players  # two rows of three, and the zoom of both


@pytest.mark.parametrize(("view", "clips"), [("samples", 8), ("checkpoint", 3), ("rate", 2)])
def test_clips_move(view, clips, keep, page):
    keep(Videos(CLIPS))
    at = page(view, checkpoint="one@0") if view == "checkpoint" else page(view)
    assert not at.exception
    assert len(at.get("image")) == clips


def test_long_and_large_clips_are_kept_small():
    shown = GalleryCollector(0, 1)
    shown.add(Videos(torch.zeros((2, 70, 3, 300, 400), dtype=torch.uint8)))
    arrays = shown.arrays()
    assert arrays["gallery"].shape == (1, 64, 3, 192, 256)
    assert arrays["thumbnails"].shape == (2, 3, 36, 48)
    large = Image.open(io.BytesIO(animation(arrays["gallery"][0], 100)))
    assert large.size == (100, 75)


def test_a_link_restores_the_sample_that_was_looked_at_closely(keep, page):
    keep(TEXTS)
    at = page("samples", sample="2")
    assert at.number_input[0].value == 2
    at.number_input[0].set_value(1).run()
    assert at.query_params["sample"] == "1"
    assert "not found" in page("samples", sample="3").error[0].value


def test_galleries_side_by_side_show_what_they_have_in_common():
    both = {"a": Gallery(texts=["five", "two", "nine"], indices=[5, 2, 9]), "b": Gallery(np.eye(2), indices=[9, 5])}
    found = aligned(both | {"none": Gallery()})
    assert found["a"].texts == ["five", "nine"]
    assert found["b"].pixels.tolist() == [[0, 1], [1, 0]]
    assert not len(found["none"])
    apart = both | {"c": Gallery(texts=["one"], indices=[1])}
    assert aligned(apart) == apart
