"""Scorers in evaluations: values by sample, kept samples, failures, resume."""

import json
import math
import os
import signal
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from evalsvc.analysis.items import open_items
from evalsvc.analysis.kept_samples import KeptSamples
from evalsvc.core.errors import InputError, ModelError
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.evaluation.scorer_checks import check_scorers
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.evaluation.worst_samples import WORST
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import load_suite, parse_suite
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.interfaces import GeneratorInfo, NegativeLogLikelihood
from evalsvc.plugins.items import Drawn, Scored
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Texts
from evalsvc.plugins.scorers import ScorerInfo
from evalsvc.store.artifacts import Artifacts
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


class Likely(Numbers):
    """The likelihood of a text is its length after the prompt's; what is measured is counted."""

    measured = 0

    def nll(self, items, request):
        type(self).measured += len(items)
        nats = [len(text) / 4 + len(prompt) for text, prompt in zip(items.items, request.prompts, strict=True)]
        return NegativeLogLikelihood(
            torch.tensor(nats, dtype=torch.float64), torch.tensor([len(t) for t in items.items]), "exact"
        )


class Surprise:
    """Nats of two candidates; the first is as long as the prompt."""

    quantities = (Quantity("surprise", Direction.LOWER, "nats", 0.0),)

    def __init__(self, device):
        self.info = ScorerInfo("surprise", frozenset({"text"}), self.quantities, frozenset({"prompt"}))

    def candidates(self, items):
        return tuple((prompt, "abcd") if prompt != "none" else () for prompt in items.prompts)

    def score_likelihoods(self, likelihoods, items):
        values = [each.nats[0] - each.nats[1] + 1 if len(each.nats) else math.nan for each in likelihoods]
        return Scored({"surprise": torch.tensor(values, dtype=torch.float64)})


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
    Likely.measured = Likely.made = 0
    Numbers.made, Numbers.refused, Numbers.salt, Length.scored = 0, frozenset(), 0, 0


def plugins():
    found = Plugins()
    found.add(Plugin(PluginKind.GENERATOR, "numbers", "tests", "1", lambda: Numbers))
    found.add(Plugin(PluginKind.GENERATOR, "likely", "tests", "1", lambda: Likely))
    found.add(Plugin(PluginKind.SCORER, "length", "tests", "1", lambda: Length))
    found.add(Plugin(PluginKind.SCORER, "surprise", "tests", "1", lambda: Surprise))
    return found


def context_of(home):
    return EvaluationContext(Settings(home=home), plugins(), "cpu", batch_size=7)


@pytest.fixture
def context(home):
    return context_of(home)


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


def scored(context, checkpoint, *arguments, generator="numbers", rerun=False, **changes):
    """Scores by label, number of samples by outcome, values by sample, and the specification."""
    spec = plan(context, checkpoint, generator, {}, suite(context, *arguments, **changes))
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
    first = scored(context, checkpoint, metrics=[{"metric": "mean", "of": "s"}])
    made = Numbers.made
    assert 50 < made <= 50 + WORST, "and the worst of those that were not kept, to look at"
    with context.database.read() as session:
        kept = KeptSamples(open_items(session, context.artifacts, session.get_one(Evaluation, 1)))
        lengths = [len(kept[number].text or "") for number in range(50)]
    values = first.items["s/length"]
    assert {n for n, length in enumerate(lengths) if length} >= set(np.argsort(-values, kind="stable")[:WORST].tolist())
    assert [n for n, length in enumerate(lengths) if length not in (0, values[n])] == []
    twice = scored(context, checkpoint, 2, {"s": {"use": "length", "options": {"times": 2.0}}})
    assert Numbers.made == 2 * made
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


def killed(work):
    """Whether another process died by ``kill -9`` in this work."""
    process = os.fork()
    if not process:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def test_values_after_two_kills_are_those_of_an_undisturbed_run(home, context, checkpoint, monkeypatch):
    class Killing(Length):
        def score(self, samples, items):
            if type(self).scored >= 25:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().score(samples, items)

    def write(self, key, *arguments, write=Artifacts.write_arrays):
        if key.startswith("values/") and "/20-40." in key:
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, key, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr("tests.evalsvc.evaluation.test_scorers.Length", Killing)
        assert killed(lambda: scored(context_of(home), checkpoint))
    with monkeypatch.context() as patched:
        patched.setattr(Artifacts, "write_arrays", write)
        assert killed(lambda: scored(context_of(home), checkpoint))
    resumed = scored(context, checkpoint)
    assert Numbers.made == 10, "the shard whose values are missing was kept"
    undisturbed = scored(context, checkpoint, rerun=True)
    assert Numbers.made == 60
    assert {n: a.tobytes() for n, a in resumed.items.items()} == {n: a.tobytes() for n, a in undisturbed.items.items()}


def test_a_suite_that_needs_likelihoods_alone_draws_nothing_and_measures_each_item_once(context, checkpoint, tmp_path):
    (tmp_path / "items.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in ("a", "bbb", "none")))
    (tmp_path / "s.yaml").write_text(
        "{name: likely, version: 1, modality: text, items: {file: items.jsonl, prompt: prompt, draws: 4},"
        " scorers: {s: {use: surprise}}, metrics: [{metric: mean, of: s}]}"
    )
    spec = plan(context, checkpoint, "likely", {}, load_suite(str(tmp_path / "s.yaml"), context.plugins))
    evaluation = evaluate(spec, context)
    assert Likely.made == 0
    assert Likely.measured == 2 * 2
    with context.database.read() as session:
        run = session.get_one(Evaluation, evaluation)
        assert {score.label: score.value for score in run.scores} == {"surprise": (0.25 + 0.75) / 2, "s_failed": 0}
        assert {each.kind for each in run.artifacts} == {"items", "influences"}
        assert run.provenance["outcomes"]["s"] == {"scored": 8, "not applicable": 4, "failed": 0}


def test_a_scorer_that_cannot_score_the_suite_is_refused_before_any_work(context, checkpoint):
    with pytest.raises(InputError, match="scorer 's' reads the prompt of each item, but the items have none"):
        scored(context, checkpoint, 1, {"s": {"use": "surprise"}})
    with pytest.raises(InputError, match="scores image samples, and scorer 'length' takes text"):
        check_scorers(suite(context, modality="image"), {"s": Length("cpu")}, Numbers(None, None))
    assert Numbers.made == 0
