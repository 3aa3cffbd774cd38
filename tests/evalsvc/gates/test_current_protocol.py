"""A stored score counts only as it would be found today."""

from dataclasses import replace
from functools import partial

import pytest

from evalsvc.builtin.demo import WEIGHTS
from evalsvc.evaluation import opening
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.gates.current_protocol import CurrentProtocol
from evalsvc.gates.runner import run_gate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite
from evalsvc.metrics.registry import METRICS
from evalsvc.plugins.registry import Plugins
from evalsvc.store import queries
from evalsvc.store.session import Database
from evalsvc.store.tables import Protocol

from .conftest import TODAY
from .store import DIGITS, add_checkpoint, add_scores, gate_policy

TODAYS = {"metric": "frechet_distance", "version": 1, "options": {}, "reference": "t" * 64, "samples": 2000}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"version": 0}, "version 0 then, 1 today"),
        ({"options": {"degree": 2}}, "options {'degree': 2} then, {} today"),
        ({"samples": 1000}, "samples 1000 then, 2000 today"),
        ({"reference": "x" * 64}, "reference xxxxxxxxxxxx then, tttttttttttt today"),
    ],
)
def test_facts_that_differ_from_those_of_today_are_named(changed, said):
    today = CurrentProtocol(DIGITS, lambda: {"train": "t" * 64, "heldout": "h" * 64})
    assert today.difference("frechet_distance", TODAYS | changed) == said
    heldout = today.difference("frechet_distance_heldout", TODAYS | changed | {"reference": "h" * 64})
    assert heldout == ("" if "reference" in changed else said)


def test_a_reference_that_nobody_knows_and_facts_of_before_are_not_compared(tmp_path):
    elsewhere = Suite.model_validate(DIGITS.model_dump() | {"reference": "gone"})
    today = CurrentProtocol.of(elsewhere, Database(f"sqlite:///{tmp_path / 'empty.db'}"), Plugins())
    assert today.difference("frechet_distance", TODAYS) == ""
    assert today.difference("frechet_distance", {"samples": 2000}) == ""


@pytest.mark.parametrize("limits", [{"max": 40}, {"max_worsening": 5}], ids=str)
@pytest.mark.parametrize("old", [9, 5])
def test_scores_of_another_metric_version_are_not_comparable_on_either_side(tmp_path, limits, old):
    database = Database(f"sqlite:///{tmp_path / 'scores.db'}")
    with database.write() as session:
        for step in (5, 9):
            add_scores(session, add_checkpoint(session, step=step), {"frechet_distance": 20.0}, protocol=f"p{step}")
            facts = {key: value for key, value in TODAYS.items() if key != "reference"}
            session.get_one(Protocol, f"p{step}").facts = facts | {"version": int(step != old)}
    policy = gate_policy(metrics={"frechet_distance": limits}, baseline={"model": "flow", "step": 5})
    done = run_gate(policy, database, DIGITS, today=TODAY)
    judged = old == 9 or "max_worsening" in limits
    assert done.exit_code == (7 if judged else 0)
    assert ("version 0 then, 1 today" in done.document["verdict"]["reason"]) is judged


def test_what_another_version_scored_is_scored_anew_from_its_shards_and_never_taken_as_it_is(context, monkeypatch):
    suite = Suite.model_validate(
        DIGITS.model_dump()
        | {"name": "few", "samples": 200, "index": {}, "neighbours": ""}
        | {"metrics": [{"metric": "frechet_distance", "features": "pixels/pixels"}]}
    )
    flow = Checkpoint.open(WEIGHTS / "flow" / "step_2000.safetensors", "flow", 2000)
    evaluate(plan(context, flow, "flow", {}, suite), context)
    limits = {"frechet_distance": {"max": 1e6}}
    policy = gate_policy(suite="few@1", baseline=None, defaults={"min_samples": 100}, metrics=limits)
    judge = partial(run_gate, policy, context.database, suite, candidate="flow@2000", today=TODAY)
    assert judge().exit_code == 0
    spec = METRICS["frechet_distance"]
    monkeypatch.setitem(METRICS, "frechet_distance", replace(spec, version=spec.version + 1))
    assert judge().exit_code == 7, "nothing to score with"
    monkeypatch.setattr(opening, "generator", None)
    assert judge(open_context=lambda: context).exit_code == 0
    with context.database.read() as session:
        facts = [row.facts["version"] for row in queries.scores(session, suite="few@1")]
    assert facts == [spec.version + 1]
    monkeypatch.setitem(METRICS, "frechet_distance", replace(spec, version=spec.version + 2))
    monkeypatch.setattr(type(context.artifacts), "exists", lambda *_: False)
    assert judge(open_context=lambda: context).exit_code == 7, "the shards are gone"
