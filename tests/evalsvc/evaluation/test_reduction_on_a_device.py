import gc
import logging
import weakref

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.factorization_choice import choose_factorizations
from evalsvc.evaluation.placement import Placement
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.evaluation.scoring import reduce
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite
from evalsvc.metrics import factorizations
from evalsvc.metrics.influence import Influence
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.items import Drawn
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Images
from evalsvc.store import queries
from tests.pretended_device import pretended

FEATURES = "pixels/pixels"
DECISIONS = {"precision", "recall", "authenticity"}
CUDA = torch.device("cuda", 0)
SECONDS = {name: {"device": 1.0, "host": 2.0} for name in factorizations.OPERATIONS}


class Squares:
    """Grey squares, of which the eighth cannot be drawn."""

    info = GeneratorInfo("squares", "image", (1, 8, 8))

    def __init__(self, checkpoint, device):
        self.level = checkpoint.tensors()["level"].to(device)

    def sample(self, request):
        failures = {row: "refused" for row, index in enumerate(request.indices.tolist()) if index == 7}
        return Drawn(Images.from_unit(self.level + 0.2 * request.normal(1, 8, 8)), failures)


def context_in(home, device, squares=Squares):
    plugins = Plugins()
    plugins.add(Plugin(PluginKind.GENERATOR, "squares", "tests", "1", lambda: squares))
    return EvaluationContext(Settings(home=home), plugins, device, batch_size=50)


@pytest.fixture(autouse=True)
def measured_before(monkeypatch):
    monkeypatch.setattr(factorizations, "measure", lambda device: SECONDS)
    monkeypatch.setattr(factorizations, "_on_host", {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reduction")


@pytest.fixture(scope="module")
def home(folder):
    return folder / "home"


@pytest.fixture(scope="module")
def spec(folder, home):
    use = {"features": FEATURES}
    suite = {
        "name": "squares",
        "version": 1,
        "modality": "image",
        "reference": "digits",
        "samples": 120,
        "shard": 60,
        "gallery": 5,
        "neighbours": FEATURES,
        "extractors": {"pixels": {"use": "pixels"}},
        "metrics": [
            {"metric": "frechet_distance", **use},
            {"metric": "kernel_distance", "options": {"subset_size": 50, "subsets": 4}, **use},
            {"metric": "precision_recall", **use},
            {"metric": "authenticity", **use},
            {"metric": "vendi_score", **use},
        ],
    }
    save_file({"level": torch.tensor(0.3)}, folder / "squares_1.safetensors")
    checkpoint = Checkpoint.open(folder / "squares_1.safetensors", "squares", 1)
    context = context_in(home, "cpu")
    spec = plan(context, checkpoint, "squares", {}, Suite.model_validate(suite))
    evaluate(spec, context)
    return spec


@pytest.fixture(scope="module")
def on_host(home, spec):
    """The scores and neighbors of the host."""
    return measured(home, spec, "cpu")


def measured(home, spec, device):
    """Scores and neighbors, with all that is found of the reference found again."""
    context = context_in(home, device)
    for key in context.artifacts.sizes("reference"):
        if "-cuda" in key:
            context.artifacts.remove(key)
    found = reduce(spec, context)
    return found.scores, context.artifacts.read_arrays(found.files["neighbours"])


def close(found, want, relative):
    return found == want if want is None else found == pytest.approx(want, rel=relative)


def assert_same_scores(found, want):
    assert [each.label for each in found] == [each.label for each in want]
    for each, other in zip(found, want, strict=True):
        score, expected = each.score, other.score
        # float32 products of other blocks: KID's are compared with the size of its kernel
        relative = 0.0 if score.name in DECISIONS else 1e-6 if score.name == "kernel_distance" else 1e-9
        assert close(score.value, expected.value, relative), each.label
        assert close(score.stderr, expected.stderr, max(relative, 1e-9)), each.label
        assert close(score.target, expected.target, max(relative, 1e-9)), each.label
        assert score.details == pytest.approx(expected.details, rel=1e-6)
        assert isinstance(score.influence, Influence) == isinstance(expected.influence, Influence)
        assert each.facts == other.facts


def assert_same(found, want):
    assert_same_scores(found[0], want[0])
    assert np.array_equal(found[1]["indices"], want[1]["indices"])
    assert all(np.allclose(found[1][name], want[1][name], rtol=1e-12, atol=0) for name in ("distances", "heldout"))


def test_scores_on_a_device_are_those_of_the_host_and_each_matrix_is_uploaded_once(home, spec, on_host, monkeypatch):
    artifacts, copy = context_in(home, "cpu").artifacts, Placement._copy
    before, uploaded, alive = artifacts.sizes("reference"), [], weakref.WeakSet()

    def watched(self, array):
        uploaded.append(len(array))
        alive.add(made := copy(self, array))
        return made

    monkeypatch.setattr(Placement, "_copy", watched)
    gc.disable()
    try:
        with pretended() as device:
            assert_same(measured(home, spec, "cuda"), on_host)
            assert not device.nondeterministic
            assert not alive
    finally:
        gc.enable()
    # The samples without one that could not be drawn, all of them for the neighbors, two splits; for the right value
    # four subsets of one split.
    assert sorted(uploaded) == [119, 119, 119, 119, 119, 120, 898, 899]
    new = artifacts.sizes("reference").keys() - before.keys()
    assert new
    assert all("-cuda" in key for key in new)


def test_matrices_for_which_a_device_has_no_room_give_the_same_scores_in_blocks(home, spec, on_host, monkeypatch):
    monkeypatch.setattr(Placement, "_copy", None)
    with pretended(free=50_000):
        assert_same(measured(home, spec, "cuda"), on_host)


def full(self, array):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("steps", [["cuda:0 in blocks"], ["cuda:0 in blocks", "the host"]])
def test_a_device_that_is_full_gives_the_same_scores_and_says_so_once(home, spec, on_host, steps, caplog, monkeypatch):
    monkeypatch.setattr(Placement, "_copy", full)
    with pretended() as device, caplog.at_level(logging.WARNING):
        context_in(home, "cuda")
        device.largest = 20_000 if "the host" in steps else None
        assert_same(measured(home, spec, "cuda"), on_host)
    said = [record.message for record in caplog.records if "memory" in record.message]
    assert [message.rpartition(" computed on ")[2] for message in said] == steps


class Interrupted(Squares):
    """Stops in the second shard, once."""

    stops = True

    def sample(self, request):
        if self.stops and request.indices[0] >= 60:
            type(self).stops = False
            raise KeyboardInterrupt
        return super().sample(request)


def test_an_evaluation_on_a_device_that_is_killed_resumes_with_the_same_bits(folder, spec):
    suite = spec.suite.model_copy(update={"metrics": spec.suite.metrics[:1], "neighbours": ""})

    def scores(kind, name):
        context = context_in(folder / name, "cuda", kind)
        number = evaluate(spec.model_copy(update={"suite": suite}), context)
        with context.database.read() as session:
            return [(row.label, row.value, row.stderr) for row in queries.scores(session, evaluation=number)]

    with pretended():
        want = scores(Squares, "at once")
        with pytest.raises(KeyboardInterrupt):
            scores(Interrupted, "killed")
        assert scores(Interrupted, "killed") == want


def test_where_factorizations_are_done_is_measured_once_and_kept(home, monkeypatch):
    context, times = context_in(home, "cpu"), []
    context.device = CUDA

    def measure(device):
        times.append(device)
        return {name: {"device": 2.0, "host": 1.0 + len(times)} for name in factorizations.OPERATIONS}

    monkeypatch.setattr(factorizations, "measure", measure)
    with pretended() as device:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a card")
        choose_factorizations(context)
        assert not factorizations.is_on_host("eigh", device.device)
        factorizations.use(CUDA, factorizations.OPERATIONS)
        choose_factorizations(context)
        assert not factorizations.is_on_host("eigh", device.device)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "another card")
        choose_factorizations(context)
    assert len(times) == 2


def test_on_a_device_too_full_to_measure_factorizations_are_done_on_the_host_and_measured_again(home, monkeypatch):
    context = context_in(home, "cpu")
    context.device = CUDA

    def full(device):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    with pretended() as device:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a full card")
        monkeypatch.setattr(factorizations, "measure", full)
        choose_factorizations(context)
        assert all(factorizations.is_on_host(name, device.device) for name in factorizations.OPERATIONS)
        monkeypatch.setattr(factorizations, "measure", lambda device: SECONDS)
        choose_factorizations(context)
        assert not any(factorizations.is_on_host(name, device.device) for name in factorizations.OPERATIONS)
