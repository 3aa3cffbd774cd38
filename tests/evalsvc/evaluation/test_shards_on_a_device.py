from collections import Counter

import pytest
import torch
from safetensors.torch import save_file

from evalsvc.core.errors import ModelError
from evalsvc.core.settings import Settings
from evalsvc.evaluation import feature_blocks
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.sample_shards import sample_files
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.interfaces import ExtractorInfo, GeneratorInfo
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Images
from tests.pretended_device import pretended


class Squares:
    """Grey squares; of a broken one the last sample is NaN."""

    info = GeneratorInfo("squares", "image", (1, 4, 4))
    broken = False

    def __init__(self, checkpoint, device):
        self.level = checkpoint.tensors()["level"].to(device)

    def sample(self, request):
        pixels = self.level + 0.2 * request.normal(1, 4, 4)
        last = request.indices[:, None, None, None] == 99
        return Images.from_unit(torch.where(last, torch.nan, pixels) if self.broken else pixels)


class Rows:
    """Pixels as floats, computed where they are; of a broken one the last are NaN."""

    info = ExtractorInfo("rows", "image", {"pixels": 16}, "none", "unit range")
    broken = False

    def __init__(self, device):
        pass

    def extract(self, samples):
        rows = samples.pixels.flatten(1).float()
        return {"pixels": rows / (rows.sum(1, keepdim=True) * 0 if self.broken else 255)}


@pytest.fixture
def parts(home, tmp_path, monkeypatch):
    """A spec of 100 samples, of which 5 are shown, and what opens contexts on a device."""
    monkeypatch.setattr("evalsvc.evaluation.gallery.THUMBNAILS", 5)
    plugins = Plugins()
    plugins.add(Plugin(PluginKind.GENERATOR, "squares", "tests", "1", lambda: Squares))
    plugins.add(Plugin(PluginKind.EXTRACTOR, "rows", "tests", "1", lambda: Rows))

    def opened(device, batch):
        return EvaluationContext(Settings(home=home), plugins, device, batch_size=batch)

    suite = {
        "name": "squares",
        "version": 1,
        "modality": "image",
        "samples": 100,
        "shard": 100,
        "gallery": 5,
        "extractors": {"rows": {"use": "rows"}},
        "metrics": [{"metric": "vendi_score", "features": "rows/pixels"}],
    }
    save_file({"level": torch.tensor(0.3)}, tmp_path / "squares_1.safetensors")
    checkpoint = Checkpoint.open(tmp_path / "squares_1.safetensors", "squares", 1)
    return plan(opened("cpu", 10), checkpoint, "squares", {}, Suite.model_validate(suite)), opened


def arrays(spec, context):
    (file,) = sample_files(spec, spec.shards[0], context, lambda done: None, rerun=True)
    return {name: each.tolist() for name, each in file.arrays.items()}


def waits(spec, opened, batch):
    with pretended() as device:
        context = opened("cuda", batch)
        device.forget()
        found = arrays(spec, context)
        assert device.blocking_uploads.total() == 1  # the weights
        return found, Counter({site: times for (_, site), times in device.synchronizations.items()})


def test_the_loop_of_batches_waits_for_the_device_at_its_end_only(parts):
    spec, opened = parts
    want = arrays(spec, opened("cpu", 10))
    few, many = waits(spec, opened, 50), waits(spec, opened, 10)
    assert few[0] == many[0] == want
    assert few[1] == many[1]
    assert sum(many[1].values()) == 3  # samples of the gallery, the checks for NaN, and the features


def test_a_shard_of_mps_is_that_of_the_host(parts):
    spec, opened = parts
    with pretended("mps"):
        found = arrays(spec, opened("mps", 10))
    assert found == arrays(spec, opened("cpu", 10))


def test_thumbnails_are_fetched_once_a_batch_while_there_are_any(parts, monkeypatch):
    spec, opened = parts
    monkeypatch.setattr("evalsvc.evaluation.gallery.THUMBNAILS", 25)
    assert waits(spec, opened, 10)[1].total() == 3 + 2


def test_many_features_come_to_the_host_before_the_end(parts, monkeypatch):
    spec, opened = parts
    want = arrays(spec, opened("cpu", 10))
    monkeypatch.setattr(feature_blocks, "HELD", 25 * 16 * 4)
    found, times = waits(spec, opened, 10)
    assert found == want
    assert times.total() == 3 + 3  # of 30 samples each, and 10 at the end


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Squares, "the generator returned 1 of 10 samples with NaN"),
        (Rows, "extractor 'rows' returned NaN or infinite values in 'pixels'"),
    ],
)
def test_nan_on_the_device_raises_as_on_the_host(parts, monkeypatch, kind, message):
    spec, opened = parts
    monkeypatch.setattr(kind, "broken", True)
    with pytest.raises(ModelError, match=message):
        arrays(spec, opened("cpu", 10))
    with pretended(), pytest.raises(ModelError, match=message):
        arrays(spec, opened("cuda", 10))


def full_above(kind, name, size, monkeypatch):
    """A generator or extractor that has memory for so many samples."""
    whole, asked = getattr(kind, name), []

    def less(self, given):
        asked.append(len(given))
        if len(given) > size:
            raise RuntimeError("CUDA error: out of memory")
        return whole(self, given)

    monkeypatch.setattr(kind, name, less)
    return asked


@pytest.mark.parametrize(("kind", "name"), [(Squares, "sample"), (Rows, "extract")])
def test_a_device_that_is_full_changes_no_sample_and_no_feature(parts, monkeypatch, kind, name):
    spec, opened = parts
    want = arrays(spec, opened("cpu", 40))
    asked = full_above(kind, name, 12, monkeypatch)
    with pretended():
        assert arrays(spec, opened("cuda", 40)) == want
    assert asked[:3] == [40, 20, 10]
    assert max(asked[2:]) == 10


def test_samples_that_scorers_read_come_to_the_host_once_a_batch(parts, monkeypatch):
    spec, opened = parts
    monkeypatch.setattr(type(spec), "keeps_samples", property(lambda self: True))
    found = {}
    for batch in (50, 10):
        with pretended() as device:
            context = opened("cuda", batch)
            device.forget()
            files = sample_files(spec, spec.shards[0], context, lambda done: None, rerun=True)
            found[batch] = files[0].arrays["digests"].tolist(), device.synchronizations.total()
    assert found[50][0] == found[10][0]
    assert found[50][1] == 1 + 2 * 3  # the features; a batch: its check for NaN, its time, and its samples
    assert found[10][1] == 1 + 10 * 3
