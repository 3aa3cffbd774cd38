"""Evaluations whose scorers ask a judge: paid answers, interruptions, and judges that are the scored model."""

import json
from dataclasses import replace

import pytest

from evalsvc.analysis.item_export import export_items
from evalsvc.analysis.items import open_items
from evalsvc.core.errors import InputError, UnavailableError
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.endpoint_requests import Pace
from evalsvc.inputs.items.reading import read_items
from evalsvc.inputs.items.schema import Items
from evalsvc.inputs.suites import load_suite
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Texts
from evalsvc.store.tables import Evaluation
from tests.evalsvc.judge_server import graded, judge_server, shown


class Echo:
    """Repeats the prompt."""

    info = GeneratorInfo("echo", "text", takes=frozenset({"prompt"}), models=frozenset({"echo-7b"}))

    def __init__(self, checkpoint, device):
        pass

    def sample(self, request):
        return Texts(request.prompts)


@pytest.fixture
def context(home):
    plugins = Plugins()
    plugins.add(Plugin(PluginKind.GENERATOR, "echo", "tests", "1", lambda: Echo))
    return EvaluationContext(Settings(home=home), plugins, "cpu", batch_size=4)


@pytest.fixture
def suite(tmp_path, context):
    """Twenty-four items whose answers are graded by their lengths, and compared with their targets."""
    rows = [{"q": "x" * (1 + i % 5), "a": "xxx", "n": f"item {i}"} for i in range(24)]
    (tmp_path / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def suite(server, version=1, **options):
        endpoint = server.file(tmp_path, price={"prompt": 1, "completion": 10})
        body = {
            "name": "judged",
            "version": version,
            "modality": "text",
            "items": {"file": "items.jsonl", "prompt": "q", "target": "a", "id": "n"},
            "shard": 12,
            "scorers": {
                "judge": {"use": "rubric", "options": {"endpoint": endpoint, "gradings": 2, **options}},
                "duel": {"use": "pairwise", "options": {"endpoint": endpoint, **options}},
            },
            "metrics": [
                {"metric": "mean", "of": "judge/quality"},
                {"metric": "mean", "of": "judge/quality_spread"},
                {"metric": "mean", "of": "duel/win"},
                {"metric": "mean", "of": "duel/position_bias"},
                {"metric": "mean", "of": "duel/judge_price"},
            ],
        }
        (tmp_path / "judged.yaml").write_text(json.dumps(body))
        return load_suite(str(tmp_path / "judged.yaml"), context.plugins)

    return suite


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "echo_1.bin"
    path.write_bytes(b"weights")
    return Checkpoint.open(path, "echo", 1)


def answer(body):
    if shown(body, "answer-A"):
        a, b = len(shown(body, "answer-A")), len(shown(body, "answer-B"))
        return graded(winner="A" if a > b else "B" if b > a else "tie")
    return graded(quality=len(shown(body, "answer")))


def scores(context, evaluation):
    with context.database.read() as session:
        run = session.get_one(Evaluation, evaluation)
        return {row.label: row for row in run.scores}, open_items(session, context.artifacts, run)


def test_grades_and_preferences_are_scores_with_errors_by_item(context, checkpoint, suite, tmp_path):
    with judge_server(answer) as server:
        found, items = scores(context, evaluate(plan(context, checkpoint, "echo", {}, suite(server)), context))
    assert len(server.bodies) == 24 * 4
    assert found["quality"].value == pytest.approx(sum(1 + i % 5 for i in range(24)) / 24)
    assert (found["quality_spread"].value, found["judge_failed"].value, found["position_bias"].value) == (0, 0, 0)
    assert found["win"].value == pytest.approx(sum((0, 0, 0.5, 1, 1)[i % 5] for i in range(24)) / 24)
    assert found["win"].ci_low < found["win"].value < found["win"].ci_high
    assert found["judge_price"].value == pytest.approx(2 * (1000 + 100 * 10) / 1e6)
    export_items(items, tmp_path / "answers.parquet")
    use = Items(file=str(tmp_path / "answers.parquet"), id="item", prompt="prompt", target="answer")
    other_side = read_items(use).items
    assert other_side.targets == tuple((prompt,) for prompt in other_side.prompts), "the answers of this model"


def test_a_judge_that_goes_down_ends_the_evaluation_and_what_was_paid_is_not_paid_again(
    context, checkpoint, suite, home, monkeypatch
):
    monkeypatch.setattr(Pace, "pause", lambda *_: None)
    with judge_server(lambda body: 500 if len(server.bodies) > 60 else answer(body)) as server:
        judged = suite(server)
        with pytest.raises(UnavailableError, match="did not respond in 5 attempts"):
            evaluate(plan(context, checkpoint, "echo", {}, judged), context)
        assert list((home / "paid-answers").rglob("*.json"))
        server.bodies.clear()
        server.answer = answer
        found, _ = scores(context, evaluate(plan(context, checkpoint, "echo", {}, judged), context))
        assert len(server.bodies) <= 24 * 4 - 55
    assert found["judge_failed"].value == 0
    assert not list((home / "paid-answers").rglob("*.json"))


@pytest.mark.parametrize("model", ["echo-7b", "echo", "echo_1.bin"])
def test_a_judge_that_is_the_scored_model_is_refused_unless_the_suite_allows_it(context, suite, checkpoint, model):
    with judge_server(answer) as server:
        server.file = lambda folder, file=server.file, **more: file(folder, model=model, **more)
        with pytest.raises(InputError, match=f"scorer 'judge' asks {model!r}, the model that it scores"):
            plan(context, checkpoint, "echo", {}, suite(server))
        plan(context, checkpoint, "echo", {}, suite(server, 2, itself=True))
        if model == "echo":
            plan(context, replace(checkpoint, model="other"), "echo", {}, suite(server))
