"""Training writes over its files while they are scored: what is scored is what was digested, or nothing."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from evalsvc.core.errors import CheckpointError
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs import checkpoints
from evalsvc.inputs.checkpoint_folders import digest_checkpoint
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.registry import Plugin, PluginKind
from evalsvc.plugins.samples import Images
from evalsvc.store import queries

SUITE = Suite.model_validate(
    {
        "name": "pixels",
        "version": 1,
        "modality": "image",
        "samples": 60,
        "shard": 20,
        "extractors": {"pixels": {"use": "pixels"}},
        "metrics": [{"metric": "vendi_score", "features": "pixels/pixels"}],
    }
)


class Level:
    """Squares of the checkpoint's brightness. ``while_loading`` is called in the middle of its loading."""

    info = GeneratorInfo("level", "image", (1, 4, 4))
    while_loading = staticmethod(lambda: None)

    def __init__(self, checkpoint, device):
        self.level = checkpoint.tensors()["level"]
        type(self).while_loading()

    def sample(self, request):
        return Images.from_unit(self.level + 0.1 * request.normal(1, 4, 4))


@pytest.fixture
def levels(context, monkeypatch):
    monkeypatch.setattr(Level, "while_loading", staticmethod(lambda: None))
    context.plugins.add(Plugin(PluginKind.GENERATOR, "level", "tests", "1", lambda: Level))
    return context


def write(path, level):
    save_file({"level": torch.tensor(level)}, path)


def pictures(path, seed):
    np.savez(path, np.random.default_rng(seed).integers(0, 255, (60, 4, 4), np.uint8))


def value(context, evaluation):
    with context.database.read() as session:
        return queries.scores(session, evaluation=evaluation)[0].value


def test_a_file_that_is_written_over_before_its_turn_is_not_scored_under_the_old_digest(levels, tmp_path):
    specs = []
    for name, level in (("a_1", 0.2), ("b_2", 0.6)):
        write(tmp_path / f"{name}.safetensors", level)
        specs.append(plan(levels, Checkpoint.open(tmp_path / f"{name}.safetensors", "m", 1), "level", {}, SUITE))
    write(tmp_path / "a_1.safetensors", 0.9)
    with pytest.raises(CheckpointError, match=r"a_1\.safetensors was overwritten while it was scored"):
        evaluate(specs[0], levels)
    assert evaluate(specs[1], levels)


def test_a_file_that_is_written_over_while_it_is_loaded_is_an_error(levels, tmp_path, monkeypatch):
    path = tmp_path / "last_1.safetensors"
    write(path, 0.2)
    opened = Checkpoint.open(path, "m", 1)
    monkeypatch.setattr(Level, "while_loading", staticmethod(lambda: write(path, 0.9)))
    with pytest.raises(CheckpointError, match="overwritten"):
        plan(levels, opened, "level", {}, SUITE)


def test_weights_that_are_loaded_may_be_written_over_while_samples_are_drawn(levels, tmp_path):
    path = tmp_path / "last_1.safetensors"
    write(path, 0.2)
    spec = plan(levels, Checkpoint.open(path, "m", 1), "level", {}, SUITE)
    write(path, 0.9)
    assert evaluate(spec, levels)


def test_a_touched_file_of_the_same_content_is_the_same_checkpoint(levels, tmp_path):
    path = tmp_path / "last_1.safetensors"
    write(path, 0.2)
    spec = plan(levels, Checkpoint.open(path, "m", 1), "level", {}, SUITE)
    levels.generator = None
    path.touch()
    assert evaluate(spec, levels)


def test_what_nobody_touched_is_digested_once(context, tmp_path, monkeypatch):
    pictures(tmp_path / "made_1.npz", 1)
    digested = []

    def digest(path, files):
        digested.append(path)
        return digest_checkpoint(path, files)

    monkeypatch.setattr(checkpoints, "digest_checkpoint", digest)
    opened = Checkpoint.open(tmp_path / "made_1.npz", "made", 1)
    assert evaluate(plan(context, opened, "samples", {}, SUITE), context)
    assert len(digested) == 1


def test_samples_that_are_changed_while_they_are_read_leave_neither_scores_nor_shards(context, tmp_path):
    path = tmp_path / "made_1.npz"
    pictures(path, 1)
    spec = plan(context, Checkpoint.open(path, "made", 1), "samples", {}, SUITE)
    # Mapped arrays change with their file: what is read from here on is the other content.
    pictures(tmp_path / "other.npz", 2)
    path.write_bytes((tmp_path / "other.npz").read_bytes())
    with pytest.raises(CheckpointError, match="overwritten"):
        evaluate(spec, context)
    assert not list(context.artifacts.sizes(spec.samples_key))

    pictures(path, 1)
    again = evaluate(plan(context, Checkpoint.open(path, "made", 1), "samples", {}, SUITE), context)
    pictures(tmp_path / "elsewhere_1.npz", 1)
    elsewhere = plan(context, Checkpoint.open(tmp_path / "elsewhere_1.npz", "made", 1), "samples", {}, SUITE)
    assert value(context, again) == value(context, evaluate(elsewhere, context, rerun=True))


class Shelf(Level):
    """A plug-in of somebody else that holds samples: one square a file's level, read when it is asked for."""

    held = 60

    def __init__(self, checkpoint, device):
        self.checkpoint = checkpoint

    def sample(self, request):
        levels = self.checkpoint.tensors()["level"] * torch.ones(len(request), 1, 4, 4)
        return Images.from_unit(levels + request.indices[:, None, None, None] / 100)


def test_whatever_generator_holds_its_samples_is_watched_while_they_are_read(levels, tmp_path):
    levels.plugins.add(Plugin(PluginKind.GENERATOR, "shelf", "tests", "1", lambda: Shelf))
    path = tmp_path / "made_1.safetensors"
    write(path, 0.2)
    spec = plan(levels, Checkpoint.open(path, "made", 1), "shelf", {}, SUITE)
    assert spec.order.of == 60
    write(path, 0.3)
    with pytest.raises(CheckpointError, match="overwritten"):
        evaluate(spec, levels)
    assert not list(levels.artifacts.sizes(spec.samples_key))
