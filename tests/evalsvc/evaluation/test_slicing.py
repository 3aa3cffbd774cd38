"""Slices of an evaluation's scores: their labels, values, facts and pairing; what is refused before any work."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from evalsvc.analysis.differences import difference
from evalsvc.analysis.runs import stored_runs
from evalsvc.builtin.demo import shipped_by_class
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.evaluation import influences
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import load_suite
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.items import Scored
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Texts
from evalsvc.plugins.scorers import ScorerInfo
from evalsvc.store import queries, tables

LANGS = ("de", "en", "=1+1")


class Echo:
    """Repeats its prompt, with the last digit of the seed."""

    info = GeneratorInfo("echo", "text", takes=frozenset({"prompt"}))

    def __init__(self, checkpoint, device):
        pass

    def sample(self, request):
        return Texts(tuple(f"{p} {s % 10}" for p, s in zip(request.prompts, request.seeds.tolist(), strict=True)))


class Faults:
    """The last digit, and 5 more for German; nothing of items without a fault to find."""

    quantities = (Quantity("faults", Direction.LOWER, "faults", 0.0, title="Faults"),)

    def __init__(self, device):
        self.info = ScorerInfo("faults", frozenset({"text"}), self.quantities)

    def score(self, samples, items):
        values = [int(text[-1]) + 5.0 * text.startswith("de") for text in samples.items]
        return Scored({"faults": torch.tensor(values)})


@pytest.fixture
def context(home):
    found = Plugins()
    found.add(Plugin(PluginKind.GENERATOR, "echo", "tests", "1", lambda: Echo))
    found.add(Plugin(PluginKind.SCORER, "faults", "tests", "1", lambda: Faults))
    return EvaluationContext(Settings(home=home), found, "cpu")


def written(tmp_path, context, metrics, tags="[lang]", rows=None):
    langs = rows or [LANGS[i % 3] for i in range(90)] + ["rare"] * 5
    lines = [json.dumps({"id": f"i{i}", "q": f"{lang} {i}", "lang": lang}) for i, lang in enumerate(langs)]
    (tmp_path / "items.jsonl").write_text("\n".join(lines))
    file = tmp_path / "suite.yaml"
    file.write_text(
        f"name: sliced\nversion: 1\nmodality: text\nitems: {{file: items.jsonl, prompt: q, tags: {tags}, draws: 2}}\n"
        f"scorers: {{s: {{use: faults}}}}\nmetrics: {metrics}\n"
    )
    return load_suite(str(file), context.plugins)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "echo_10.safetensors"
    save_file({"level": torch.tensor(0.3)}, path)
    return Checkpoint.open(path, "echo", 10)


def test_every_slice_has_its_score_and_the_worst_says_which_it_is(tmp_path, context, checkpoint):
    suite = written(tmp_path, context, "[{metric: mean, of: s, by: lang}, {metric: best_of, of: s}]")
    assert suite.labels == ("faults", "faults_best_of", "s_failed")
    number = evaluate(plan(context, checkpoint, "echo", {}, suite), context)
    with context.database.read() as session:
        whole = {row.label: row for row in queries.scores(session, evaluation=number)}
        rows = {row.label: row for row in queries.slices(session, number, "faults")}
        details = {row.label: row.details for row in session.query(tables.Score)}
        key = f"evaluations/{session.get(tables.Evaluation, number).fingerprint[:32]}/influences.safetensors"
        read = influences.read_influences(context.artifacts, key)
        runs = stored_runs(session, context.artifacts, session.query(tables.Checkpoint).one(), suite.id)
        row = session.query(tables.Checkpoint).one()
        [side] = queries.side(session, row, suite.id, "faults[lang=de]")[1]
        with pytest.raises(InputError, match="has no score 'faults\\[lang=xx\\]' under sliced@1"):
            queries.side(session, row, suite.id, "faults[lang=xx]")
    assert side.label == "faults[lang=de]"
    assert set(whole) == {"faults", "faults_best_of", "s_failed"}
    assert set(rows) == {f"faults[lang={lang}]" for lang in ("de", "en", "\\u{3d}1+1")} | {"faults[worst]"}
    german, worst = rows["faults[lang=de]"], rows["faults[worst]"]
    assert worst.value == german.value == max(row.value for row in rows.values())
    assert (german.n, german.independent, german.independent_unit) == (60, 30, "items")
    assert worst.ci_high == german.ci_high
    assert worst.ci_low < german.ci_low
    assert (details["faults[worst]"]["slice"], details["faults[worst]"]["slices"]) == ("faults[lang=de]", 3)
    assert details["faults[worst]"]["too_small"] == 1
    assert german.facts["slice"] == "de"
    assert len({row.protocol for row in (whole["faults"], *rows.values())}) == 5
    stored = read["faults[lang=de]"]
    assert isinstance(stored.influence, Influence)
    assert (len(stored.influence.whole), stored.influence.members, stored.units) == (95, 30, read["faults"].units)
    assert np.sqrt(stored.influence.variance) == pytest.approx(german.stderr, rel=1e-5)
    one = difference(runs["faults[lang=de]"], [runs["faults[lang=en]"][0]])
    assert one.paired


def test_what_cannot_be_sliced_is_refused_before_any_work(tmp_path, context, checkpoint):
    with pytest.raises(InputError, match="no items have 'region': use one of lang as 'by'"):
        written(tmp_path, context, "[{metric: mean, of: s, by: region}]")
    with pytest.raises(InputError, match="too long to be sliced by 'lang': shorten it"):
        written(tmp_path, context, f"[{{metric: mean, of: s, by: lang, label: {'x' * 90}}}]")
    with pytest.raises(InputError, match="raise 'draws' of the items"):
        written(tmp_path, context, "[{metric: pass_at, of: s, options: {k: 3}}]")
    many = written(tmp_path, context, "[{metric: mean, of: s, by: lang}]", rows=[f"l{i}" for i in range(1001)])
    with pytest.raises(InputError, match="mean by lang has 1001 slices: use a tag with at most 1000 values"):
        plan(context, checkpoint, "echo", {}, many)


def by_class(tmp_path, samples, metrics):
    file = tmp_path / "classes.yaml"
    file.write_text(
        f"name: classes\nversion: 1\nmodality: image\nreference: digits\nsamples: {samples}\ngallery: 0\n"
        "items: {labels: {classes: 10}}\nextractors: {cnn: {use: digits-cnn}}\n"
        f"metrics: {metrics}\n"
    )
    return load_suite(str(file), Plugins())


def test_a_lost_class_is_the_worst_slice_of_metrics_of_sets(tmp_path, home):
    context = EvaluationContext(Settings(home=home), Plugins(), "cpu")
    lost = next(each for each in shipped_by_class() if each.family.endswith("without-3"))
    metrics = "[{metric: frechet_distance, features: cnn/features, by: label}, "
    metrics += "{metric: precision_recall, features: cnn/features, by: label}]"
    checkpoint = Checkpoint.open(lost.path, lost.family, lost.step)
    generator = "conditional-gan"
    with pytest.raises(
        InputError, match=r"slices of 50 samples, not more than the 64 dimensions .*: use kernel_distance"
    ):
        plan(context, checkpoint, generator, {}, by_class(tmp_path, 500, metrics))
    number = evaluate(plan(context, checkpoint, generator, {}, by_class(tmp_path, 700, metrics)), context)
    with context.database.read() as session:
        rows = {row.label: row for row in session.query(tables.Score)}
    fd = {label: row.value for label, row in rows.items() if label.startswith("frechet_distance[label")}
    assert len(fd) == 10
    assert max(fd, key=fd.get) == "frechet_distance[label=3]"
    assert rows["frechet_distance[worst]"].details["slice"] == "frechet_distance[label=3]"
    assert rows["recall[worst]"].slice_of == "recall"
    assert rows["frechet_distance[label=3]"].n == 70
    assert number == 1
