"""Scorers in evaluations: values by sample, kept samples, failures, resume."""

import json
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from evalsvc.core.errors import ModelError
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import parse_suite
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.items import Drawn, Scored
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Texts
from evalsvc.plugins.scorers import ScorerInfo
from evalsvc.store.tables import Evaluation

LENGTH = Quantity("length", Direction.LOWER, "characters", 0.0)


class Numbers:
    """Texts that are random numbers; what is drawn is counted, and may fail."""

    info = GeneratorInfo("numbers", "text")
    made, refused, salt = 0, frozenset[int](), 0

    def __init__(self, checkpoint, device):
        pass

    def sample(self, request):
        type(self).made += len(request)
        texts = [str(seed % 10**9 + self.salt) for seed in request.seeds.tolist()]
        rows = [row for row, i in enumerate(request.indices.tolist()) if i in self.refused]
        return Drawn(Texts(tuple("" if i in rows else t for i, t in enumerate(texts))), dict.fromkeys(rows, "refused"))


class Length:
    """Number of characters; a text with the digit ``crash`` raises, one that starts with ``skip`` has none."""

    quantities = (LENGTH,)
    scored = 0

    def __init__(self, device, crash="", skip="", times=1.0):
        self.crash, self.skip, self.times = crash, skip, times
        self.info = ScorerInfo("length", frozenset({"text"}), self.quantities, facts={"times": str(times)})

    def score(self, samples, items):
        type(self).scored += len(samples)
        if self.crash and any(self.crash in f"{text}." for text in samples.items):
            raise ValueError(f"cannot count {self.crash}\nin detail")
        skipped = {i for i, text in enumerate(samples.items) if self.skip and text.startswith(self.skip)}
        values = [float("nan") if i in skipped else self.times * len(text) for i, text in enumerate(samples.items)]
        return Scored({"length": torch.tensor(values, dtype=torch.float32)}, dict.fromkeys(skipped, "it is skipped"))


class Found(NamedTuple):
    scores: dict
    outcomes: dict
    items: dict
    spec: EvaluationSpec

    @property
    def reasons(self):
        return json.loads(self.items["reasons"].tobytes())["s"]


@pytest.fixture(autouse=True)
def fresh():
    Numbers.made, Numbers.refused, Numbers.salt, Length.scored = 0, frozenset(), 0, 0


def plugins():
    found = Plugins()
    found.add(Plugin(PluginKind.GENERATOR, "numbers", "tests", "1", lambda: Numbers))
    found.add(Plugin(PluginKind.SCORER, "length", "tests", "1", lambda: Length))
    return found


@pytest.fixture
def context(home):
    return EvaluationContext(Settings(home=home), plugins(), "cpu", batch_size=7)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "numbers_10.safetensors"
    save_file({"level": torch.tensor(0.3)}, path)
    return Checkpoint.open(path, "numbers", 10)


def suite(context, version=1, scorers=None, **changes):
    body = {
        "name": "lengths",
        "version": version,
        "modality": "text",
        "samples": 50,
        "shard": 20,
        "gallery": 5,
        "scorers": scorers or {"s": {"use": "length"}},
        "metrics": [{"metric": "mean", "of": "s"}],
    }
    return parse_suite(body | changes, "suite", context.plugins)


def scored(context, checkpoint, *arguments, rerun=False, **changes):
    """Scores by label, number of samples by outcome, values by sample, and the specification."""
    spec = plan(context, checkpoint, "numbers", {}, suite(context, *arguments, **changes))
    evaluation = evaluate(spec, context, rerun=rerun)
    with context.database.read() as session:
        run = session.get_one(Evaluation, evaluation)
        rows = {row.label: row for row in run.scores}
    items = context.artifacts.read_arrays(f"evaluations/{spec.fingerprint[:32]}/items.safetensors")
    return Found(rows, run.provenance["outcomes"], items, spec)


def test_a_suite_with_a_scorer_has_the_mean_of_its_values_and_the_share_that_failed(context, checkpoint):
    found = scored(context, checkpoint)
    assert set(found.scores) == {"length", "s_failed"}
    assert found.scores["length"].value == np.mean(found.items["s/length"])
    assert found.scores["s_failed"].value == 0
    assert found.outcomes == {"s": {"scored": 50, "not applicable": 0, "failed": 0}}
    assert Numbers.made == Length.scored == 50


def test_a_new_scorer_draws_nothing_again(context, checkpoint):
    first = scored(context, checkpoint)
    more = {"s": {"use": "length"}, "t": {"use": "length", "options": {"times": 2.0}}}
    metrics = [{"metric": "mean", "of": each, "label": each} for each in more]
    second = scored(context, checkpoint, 2, more, metrics=metrics).scores
    assert Numbers.made == 50
    assert Length.scored == 100
    assert second["t"].value == 2 * second["s"].value == 2 * first.scores["length"].value


def test_without_room_for_samples_they_are_drawn_again_by_seed(context, checkpoint):
    context.kept_bytes = 100
    first = scored(context, checkpoint)
    twice = scored(context, checkpoint, 2, {"s": {"use": "length", "options": {"times": 2.0}}})
    assert Numbers.made == 100
    assert twice.scores["length"].value == 2 * first.scores["length"].value
    # A generator that draws other samples than before: all of a shard is drawn, extracted and scored again.
    shard = twice.spec.shard_key(twice.spec.shards[0])
    Numbers.salt, before = 10**12, context.artifacts.read_arrays(shard)["digests"]
    thrice = scored(context, checkpoint, 3, {"s": {"use": "length", "options": {"times": 3.0}}})
    assert (before != context.artifacts.read_arrays(shard)["digests"]).any(1).all()
    assert thrice.scores["length"].value > 3 * 12


def test_values_of_other_samples_than_those_on_disk_are_computed_again(context, checkpoint):
    spec = scored(context, checkpoint).spec
    Numbers.salt = 10**12
    assert scored(context, checkpoint, 2, gallery=6).scores["length"].value < 10  # other shards, from what was kept
    assert Numbers.made == 50
    for key in (spec.shard_key(spec.shards[0]), f"{spec.draws_key}/0-20.safetensors"):
        context.artifacts.remove(key)
    found = scored(context, checkpoint, 3)
    assert Numbers.made == 70
    assert (found.items["s/length"] > 12).tolist() == [True] * 20 + [False] * 30


def test_samples_that_were_refused_are_failures_and_the_others_are_kept(context, checkpoint):
    Numbers.refused = frozenset({3, 41})
    metrics = [{"metric": "mean", "of": "s"}, {"metric": "distinct_n", "options": {"n": 1}}]
    found = scored(context, checkpoint, metrics=metrics)
    assert found.scores["s_failed"].value == 2 / 50
    assert found.scores["length"].n == found.scores["distinct_1"].n == 48
    assert found.scores["distinct_1"].details["failed"] == 2
    assert found.outcomes["s"] == {"scored": 48, "not applicable": 0, "failed": 2}
    assert found.reasons == {"3": "refused", "41": "refused"}
    assert np.flatnonzero(np.isnan(found.items["s/length"])).tolist() == [3, 41]


def test_a_crash_costs_the_samples_that_cause_it(context, checkpoint):
    found = scored(context, checkpoint, 1, {"s": {"use": "length", "options": {"crash": "77", "skip": "1"}}})
    assert 0 < found.outcomes["s"]["failed"] < 25
    assert 0 < found.outcomes["s"]["not applicable"] < 25
    assert found.scores["s_failed"].value == found.outcomes["s"]["failed"] / 50
    assert set(found.reasons.values()) == {"ValueError: cannot count 77", "it is skipped"}


def test_a_scorer_that_crashes_on_every_sample_is_an_error(context, checkpoint):
    with pytest.raises(ModelError, match="scorer 'length' failed on every sample: ValueError"):
        scored(context, checkpoint, 1, {"s": {"use": "length", "options": {"crash": "."}}})


def test_a_damaged_file_of_values_is_computed_again_from_the_kept_samples(context, checkpoint):
    first = scored(context, checkpoint)
    context.artifacts.local(f"{first.spec.values_key('s')}/20-40.safetensors").write_bytes(b"damaged")
    second = scored(context, checkpoint, 2)
    assert second.scores["length"].value == first.scores["length"].value
    assert Numbers.made == 50
    assert Length.scored == 70
