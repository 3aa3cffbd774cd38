"""The command line, HTTP and all ways to gate give one difference and one interval, for every score of the demo."""

import json
import math

import pytest
import yaml
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from evalsvc.analysis.differences import Errors
from evalsvc.analysis.errors import Sides
from evalsvc.api import schemas
from evalsvc.api.server import token_store
from evalsvc.api.server.app import create_app
from evalsvc.api.server.state import Server, ServerSettings
from evalsvc.api.server.task_handlers import TaskHandlers
from evalsvc.builtin.demo import WEIGHTS
from evalsvc.cli.main import app
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.gates.policy import parse_policy
from evalsvc.gates.resolution import quantities_of
from evalsvc.gates.runner import run_gate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.references import add_reference
from evalsvc.inputs.suites import Suite, load_suite
from evalsvc.metrics.score import Z95
from evalsvc.plugins.registry import Plugins
from evalsvc.store.session import Database
from evalsvc.store.tables import Gate, Scope
from tests.evalsvc.language_models import save

NEUTRAL = {"ct_score"}
"""A score without better or worse, which no gate compares."""


def digits(folder):
    """Two steps of a VAE, which makes like images of like noise."""
    suite = Suite.model_validate(
        load_suite("digits@1").model_dump() | {"name": "few-digits", "samples": 200, "neighbours": ""}
    )
    files = [WEIGHTS / "vae" / f"step_{step}.safetensors" for step in (1000, 3000)]
    return suite, "vae", {"vae@1000": files[0], "vae@3000": files[1]}


def text(folder):
    """Two tiny language models under the demo's suite without its scorer, which reads the whole reference."""
    body = load_suite("text-tiny@1").model_dump()
    metrics = [each for each in body["metrics"] if not each["features"]]
    decoding = {"max_tokens": 12}
    fewer = {"samples": 40, "metrics": metrics, "extractors": {}, "decoding": decoding, "reference": "documents"}
    suite = Suite.model_validate(body | {"name": "few-texts", **fewer})
    documents = [f"document {i} says {'so ' * (i % 5)}{i * 7919}" for i in range(36)]
    for split, part in (("train", documents[:12]), ("heldout", documents[12:])):
        (folder / f"{split}.txt").write_text("\f".join(part))
    add_reference(Database(Settings().database), Plugins(), "documents", folder / "train.txt", folder / "heldout.txt")
    return suite, "causal-lm", {f"tiny@{step}": save(folder / f"tiny_{step}", "llama", step) for step in (1, 2)}


@pytest.fixture(scope="module", params=[digits, text])
def scored(request, tmp_path_factory):
    """Two checkpoints under one suite."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVALSVC_HOME", str(home))
        patch.delenv("EVALSVC_DATABASE_URL", raising=False)
        suite, generator, checkpoints = request.param(home)
        context = EvaluationContext(Settings(), Plugins(), "cpu")
        for name, path in checkpoints.items():
            model, _, step = name.partition("@")
            evaluate(plan(context, Checkpoint.open(path, model, int(step)), generator, {}, suite), context)
        yield context, suite, list(checkpoints)


def policy(suite, baseline):
    """Every score that can worsen, by far more than it does."""
    quantities = {name: each for name, each in quantities_of(suite).items() if each.direction.value != "neutral"}
    model, _, step = baseline.partition("@")
    body = {
        "version": 1,
        "suite": suite.id,
        "baseline": {"model": model, "step": int(step)},
        "metrics": {name: {"max_worsening": min(1e6, each.high)} for name, each in quantities.items()},
    }
    return yaml.safe_dump(body)


def told(evidence):
    """Each score's difference and 95 % interval, candidate less baseline, and whether it is paired, from a gate."""
    found = {}
    for label, metric in evidence["metrics"].items():
        for comparison in metric["comparisons"]:
            sign = 1 if metric["direction"] == "lower" else -1
            given = dict(comparison["errors"])
            of_b, of_a, shares = given.pop("sides") or (None, None, ())
            sides = None if of_b is None else Sides(of_b, of_a, tuple(shares))
            errors = Errors(**{key: float(value) for key, value in given.items()}, sides=sides)
            down, up = (errors if sign == 1 else errors.turned).widths(Z95)
            value = sign * comparison["estimate"]
            found[label] = value, (value - down, value + up), metric["paired"]
    return found


def compared(differences):
    """The same from what `compare` and HTTP say."""
    return {
        each.get("label") or each["score"]: (each["difference"], tuple(each["interval"]), each["paired"])
        for each in differences
        if each["interval"] and (each.get("label") or each["score"]) not in NEUTRAL
    }


def test_every_way_gives_one_difference_and_one_interval(scored, tmp_path):
    context, suite, (a, b) = scored
    answered = CliRunner().invoke(app, ["compare", a, b, "--suite", suite.id, "--json"])
    expected = compared(json.loads(answered.stdout)["differences"])
    server = Server.open(Settings(), ServerSettings(checkpoint_roots=(tmp_path,)))
    _, secret = token_store.create(server.database, "test", [Scope.READ])
    client = TestClient(create_app(server), base_url="http://localhost", headers={"authorization": f"Bearer {secret}"})
    answer = client.get("/api/v1/comparison", params={"a": a, "b": b, "suite": suite.id})
    assert compared(answer.json()["differences"]) == expected
    text = policy(suite, a)
    gated = parse_policy(text, "here")
    stored = run_gate(gated, context.database, suite, candidate=b, shadow=True)
    assert told(stored.document["evidence"]) == expected
    run = run_gate(gated, context.database, suite, context, candidate=b, shadow=True)
    assert told(run.document["evidence"]) == expected
    posted = TaskHandlers(()).decide(schemas.DecideGate(policy=text, candidate=b, shadow=True))
    with context.database.read() as session:
        assert told(session.get_one(Gate, posted).evidence) == expected
    assert len(expected) >= 8
    assert all(math.isfinite(end) for _, ends, _ in expected.values() for end in ends)


def test_what_both_sides_share_is_paired(scored):
    _, suite, (a, b) = scored
    answered = CliRunner().invoke(app, ["compare", a, b, "--suite", suite.id, "--json"])
    for each in json.loads(answered.stdout)["differences"]:
        if each["interval"]:
            assert each["paired"], each["score"]
            assert each["independent"] >= 10
