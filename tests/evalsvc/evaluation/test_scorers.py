"""Scorers in evaluations: values by sample, kept samples, failures, resume."""

import pytest
import torch
from safetensors.torch import save_file

from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import parse_suite
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.items import Drawn, Scored
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Texts
from evalsvc.plugins.scorers import ScorerInfo
from evalsvc.store import queries
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
        if self.crash and any(self.crash in text for text in samples.items):
            raise ValueError(f"cannot count {self.crash}\nin detail")
        skipped = {i for i, text in enumerate(samples.items) if self.skip and text.startswith(self.skip)}
        values = [float("nan") if i in skipped else self.times * len(text) for i, text in enumerate(samples.items)]
        return Scored({"length": torch.tensor(values, dtype=torch.float32)}, dict.fromkeys(skipped, "it is skipped"))


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
    """Scores by label, and the row of the evaluation."""
    spec = plan(context, checkpoint, "numbers", {}, suite(context, *arguments, **changes))
    evaluation = evaluate(spec, context, rerun=rerun)
    with context.database.read() as session:
        rows = {row.label: row for row in queries.scores(session, evaluation=evaluation)}
        return rows, session.get_one(Evaluation, evaluation), spec


def test_a_suite_with_a_scorer_has_the_mean_of_its_values_and_the_share_that_failed(context, checkpoint):
    rows, run, _ = scored(context, checkpoint)
    assert set(rows) == {"length", "s_failed"}
    assert 8 < rows["length"].value < 9.5
    assert rows["s_failed"].value == 0
    assert run.provenance["outcomes"] == {"s": {"scored": 50, "not applicable": 0, "failed": 0}}
    assert Numbers.made == Length.scored == 50
