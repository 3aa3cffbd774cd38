"""Classes of torchmetrics in suites: expanded to scorers, their own value over all samples, slices, pairs, resume."""

import json
import os
import signal
from types import SimpleNamespace

import pytest
import torch
import torchmetrics.text
from safetensors.torch import save_file

from evalsvc.analysis.differences import difference
from evalsvc.analysis.runs import stored_runs
from evalsvc.core.errors import ForbiddenError, InputError
from evalsvc.core.settings import Settings
from evalsvc.evaluation import client_rules
from evalsvc.evaluation.client_rules import ClientRules
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.item_values import values_key
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.plugin_check import check_plugin
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import load_suite, parse_suite
from evalsvc.metrics.registry import METRICS, QUANTITIES
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Texts
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.tables import Checkpoint as Checkpoints
from evalsvc.store.tables import Evaluation
from tests.evalsvc.evaluation.test_scorers import killed

WER = "torchmetrics/text.WordErrorRate"
LANGS = ("de", "en", "fr")


class Hearing:
    """Repeats its prompt; a word of some is wrong, more of them for a smaller level of the checkpoint."""

    info = GeneratorInfo("hearing", "text", takes=frozenset({"prompt"}))
    made = 0

    def __init__(self, checkpoint, device):
        self.level = int(checkpoint.step)

    def sample(self, request):
        type(self).made += len(request)
        told = zip(request.prompts, request.seeds.tolist(), strict=True)
        return Texts(tuple(f"{p} wrong" if seed % 10 >= self.level else p for p, seed in told))


class Words(torchmetrics.text.WordErrorRate):
    """A class of a plug-in."""


def plugins():
    found = Plugins()
    found.add(Plugin(PluginKind.GENERATOR, "hearing", "tests", "1", lambda: Hearing))
    found.add(Plugin(PluginKind.METRIC, "mer", "tests", "1", lambda: torchmetrics.text.MatchErrorRate))
    found.add(Plugin(PluginKind.METRIC, "gap", "tests", "1", lambda: torchmetrics.MeanSquaredError))
    found.add(Plugin(PluginKind.METRIC, "words", "tests", "7", lambda: Words))
    return found


@pytest.fixture(autouse=True)
def registered():
    """Metrics of plug-ins are registered for the process: afterward they are not."""
    before = dict(METRICS), dict(QUANTITIES)
    yield
    for table, kept in zip((METRICS, QUANTITIES), before, strict=True):
        table.clear()
        table.update(kept)


@pytest.fixture
def context(home):
    Hearing.made = 0
    return EvaluationContext(Settings(home=home), plugins(), "cpu", batch_size=8)


def suite_of(tmp_path, context, metrics, count=60):
    rows = [{"id": f"i{i}", "q": f"a sentence {i} " * (1 + i % 3), "lang": LANGS[i % 3]} for i in range(count)]
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(row | {"t": row["q"].strip()}) for row in rows))
    body = {"name": "w", "version": 1, "modality": "text", "shard": 20, "gallery": 5, "metrics": metrics}
    body["items"] = {"file": "items.jsonl", "id": "id", "prompt": "q", "target": "t", "tags": ["lang"]}
    (tmp_path / "s.yaml").write_text(json.dumps(body))
    return load_suite(str(tmp_path / "s.yaml"), context.plugins)


def evaluated(tmp_path, context, suite, step=5):
    path = tmp_path / f"m_{step}.safetensors"
    save_file({"level": torch.tensor(0.3)}, path)
    spec = plan(context, Checkpoint.open(path, "m", step), "hearing", {}, suite)
    evaluation = evaluate(spec, context)
    with context.database.read() as session:
        return {row.label: row for row in session.get_one(Evaluation, evaluation).scores}, spec


def drawn(context, spec):
    texts = [context.artifacts.read_arrays(spec.shard_key(shard))["texts"] for shard in spec.shards]
    return [text for each in texts for text in json.loads(each.tobytes())]


def test_the_score_is_the_value_of_the_class_over_all_samples_with_slices(tmp_path, context):
    uses = [
        {"metric": WER, "by": "lang"},
        {"metric": "torchmetrics/text.ROUGEScore", "label": "*_own", "error": "none"},
    ]
    scores, spec = evaluated(tmp_path, context, suite_of(tmp_path, context, uses))
    texts = drawn(context, spec)
    targets = [text.removesuffix("wrong").strip() for text in texts]
    assert any(text != target for text, target in zip(texts, targets, strict=True))
    own = torchmetrics.text.WordErrorRate()
    own.update(texts, targets)
    whole = scores["word_error_rate"]
    assert whole.value == pytest.approx(float(own.compute()), rel=1e-6)
    assert (whole.stderr_method, whole.n, whole.direction) == ("jackknife over 20 groups of items", 60, "lower")
    assert whole.ci_low < whole.value < whole.ci_high
    assert {f"word_error_rate[lang={lang}]" for lang in LANGS} | {"word_error_rate[worst]"} <= scores.keys()
    assert scores["word-error-rate_failed"].value == 0
    assert scores["rouge_score_rouge1_fmeasure_own"].stderr is None
    assert {"rouge_score_rouge2_fmeasure_own", "rouge_score_rougel_fmeasure_own"} <= scores.keys()


def runs_of(context, suite, step):
    with context.database.read() as session:
        checkpoint = session.query(Checkpoints).filter_by(step=step).one()
        return stored_runs(session, context.artifacts, checkpoint, suite.id)["word_error_rate"]


def test_two_checkpoints_are_paired_on_their_items(tmp_path, context):
    suite = suite_of(tmp_path, context, [{"metric": WER}])
    for step in (5, 6):
        evaluated(tmp_path, context, suite, step)
    a, b = runs_of(context, suite, 5), runs_of(context, suite, 6)
    found = difference(a, b)
    assert found.paired
    assert found.stderr < 0.8 * (a[0].stderr ** 2 + b[0].stderr ** 2) ** 0.5


def test_after_a_kill_the_scores_are_those_of_an_undisturbed_run(tmp_path, context, home, monkeypatch):
    def write(self, key, *arguments, write=Artifacts.write_arrays):
        if key.startswith("values/") and "/20-40." in key:
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, key, *arguments)

    suite = suite_of(tmp_path, context, [{"metric": WER}])
    with monkeypatch.context() as patched:
        patched.setattr(Artifacts, "write_arrays", write)
        other = EvaluationContext(Settings(home=home), plugins(), "cpu", batch_size=8)
        assert killed(lambda: evaluated(tmp_path, other, suite))
    resumed, spec = evaluated(tmp_path, context, suite)
    assert Hearing.made == 20, "samples that were kept are not drawn again"
    values = {shard: context.artifacts.read_arrays(values_key(spec, "word-error-rate", shard)) for shard in spec.shards}
    evaluate(spec, context, rerun=True)
    for shard, arrays in values.items():
        again = context.artifacts.read_arrays(values_key(spec, "word-error-rate", shard))
        assert {name: each.tobytes() for name, each in again.items()} == {n: a.tobytes() for n, a in arrays.items()}
    assert runs_of(context, suite, 5)[-1].value == resumed["word_error_rate"].value


def parsed(metrics, **more):
    body = {"name": "t", "version": 1, "modality": "text", "samples": 30, "metrics": metrics}
    return parse_suite(body | more, "suite", plugins())


def test_a_class_in_a_suite_is_a_scorer_and_an_aggregate():
    suite = parsed(
        [{"metric": WER}, {"metric": "torchmetrics/text.SQuAD", "label": "*_2"}, {"metric": WER, "label": "x"}]
    )
    assert suite.labels[:1] == ("word_error_rate",)
    assert set(suite.scorers) == {"word-error-rate", "squad"}
    assert suite.scorers["word-error-rate"].options == {"metric": "text.WordErrorRate"}
    assert [each.of for each in suite.metrics] == [
        "word-error-rate/word_error_rate",
        "squad/squad_exact_match",
        "squad/squad_f1",
        "word-error-rate/word_error_rate",
    ]
    again = parse_suite(suite.model_dump(mode="json"), "suite", plugins())
    assert (again, again.digest) == (suite, suite.digest)


def test_the_same_class_with_other_options_is_another_scorer():
    bleu = {"metric": "torchmetrics/text.BLEUScore"}
    suite = parsed([bleu, bleu | {"options": {"n_gram": 2}, "label": "bleu2"}])
    assert set(suite.scorers) == {"bleu-score", "bleu-score-2"}
    assert suite.scorers["bleu-score-2"].options["options"] == {"n_gram": 2}


def test_registered_classes_take_samples_where_they_are_of_torchmetrics_or_have_inputs():
    suite = parsed([{"metric": "mer"}, {"metric": "words", "inputs": {"preds": "texts", "target": "target"}}])
    assert suite.labels == ("mer", "mer_failed", "words", "words_failed")
    assert suite.scorers["words"].options["metric"] == "words"


def test_features_are_those_of_an_extractor_of_the_suite():
    use = {"metric": "torchmetrics/classification.MulticlassF1Score", "options": {"num_classes": 10}}
    more = {
        "modality": "image",
        "items": {"labels": {"classes": 10, "as": "balanced"}},
        "extractors": {"cnn": {"use": "digits-cnn"}},
    }
    suite = parsed([use | {"features": "cnn/logits", "by": "label"}], **more)
    options = suite.scorers["multiclass-f1-score"].options
    assert options["features"] == {"extractor": "digits-cnn", "output": "logits", "options": {}}
    with pytest.raises(InputError, match="metrics.0: 'features: dnn/logits' does not name an output of the suite's"):
        parsed([use | {"features": "dnn/logits"}], **more)


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        ({"metric": "torchmetrics/text.Nothing"}, r"metrics.0: torchmetrics 1\S+ has no class 'text.Nothing'"),
        ({"metric": "torchmetrics/os.system"}, "metrics.0: invalid torchmetrics class 'os.system'"),
        ({"metric": "torchmetrics/nothing"}, "metrics.0: there is no metric 'nothing'"),
        ({"metric": "torchmetrics/text.InfoLM"}, "'text.InfoLM' needs the option model_name_or_path"),
        ({"metric": WER, "of": "a/b"}, "'of' is not a key of torchmetrics/text.WordErrorRate: use inputs, options"),
        ({"metric": WER, "error": "bootstrap"}, "option error: 'bootstrap': Input should be 'jackknife' or 'none'"),
        ({"metric": "mean", "of": "s", "inputs": {}}, "metrics.0.inputs: is not a key of suites"),
    ],
)
def test_classes_that_do_not_fit_are_refused_by_name_when_the_suite_is_read(use, reason):
    with pytest.raises(InputError, match=reason):
        parsed([use])


def test_a_scorer_without_states_has_no_value_of_its_own_over_all_samples():
    uses = [{"metric": "merged", "of": "s"}]
    with pytest.raises(InputError, match="keeps no states of 'exact_match' that merge: use mean"):
        parsed(uses, scorers={"s": {"use": "exact-match"}})


def test_classes_are_closed_to_clients_unless_the_operator_lists_them():
    with pytest.raises(ForbiddenError, match="scorer 'torchmetrics' is not open to clients"):
        ClientRules(plugins()).check_suite(parsed([{"metric": WER}]), True, True)


def test_where_the_operator_lists_classes_extractors_and_options_of_constructors_stay_closed(monkeypatch):
    listed = {"torchmetrics": frozenset({"metric", "features", "options"})}
    clients = SimpleNamespace(extractors=None, scorers=listed, metrics=frozenset({"gap"}))
    monkeypatch.setattr(client_rules, "server_file", lambda: SimpleNamespace(clients=clients))
    rules, more = ClientRules(plugins()), {"reference": "digits", "modality": "image"}
    rules.check_suite(parsed([{"metric": WER}]), True, True)
    clustering = {"metric": "torchmetrics/clustering.DunnIndex", "features": "x/pixels"}
    named = {"x": {"use": "clip", "options": {"model": "/etc"}}}
    suite = parsed([clustering], items={"labels": {"classes": 2, "as": "balanced"}}, extractors=named, **more)
    with pytest.raises(ForbiddenError, match="option 'model' of extractor 'clip' is not open"):
        rules.check_suite(suite.model_copy(update={"extractors": {}}), True, True)
    gap = {"metric": "gap", "features": "x/pixels", "options": {"squared": False}}
    with pytest.raises(ForbiddenError, match="metric 'gap' has no options for clients of this server: omit them"):
        rules.check_suite(parsed([gap], extractors={"x": {"use": "pixels"}}, **more), True, True)


def test_a_registered_class_of_samples_is_checked_as_a_scorer(context):
    findings = check_plugin(context, PluginKind.METRIC, "mer", {})
    assert [each.check for each in findings if not each.ok] == []
    assert any(each.check.startswith("text: determinism") for each in findings)
