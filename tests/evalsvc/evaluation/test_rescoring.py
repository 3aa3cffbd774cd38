"""Errors are found anew from what is stored: values and protocols stay."""

import os
from dataclasses import replace

import pytest
from sqlalchemy import event, update

from evalsvc.analysis.differences import BEFORE
from evalsvc.analysis.leaderboard import Side, boards
from evalsvc.analysis.leaderboard import compare as differences_of
from evalsvc.analysis.runs import runs_beside
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.rescoring import rescore_stored
from evalsvc.evaluation.runner import evaluate
from evalsvc.metrics.registry import METRICS
from evalsvc.store import queries
from evalsvc.store.tables import Evaluation, Score
from tests.evalsvc.evaluation.test_runner import checkpoint, context, fresh_counters, suite  # noqa: F401

SMALL = {"samples": 120, "shard": 60, "metrics": [{"metric": "frechet_distance", "features": "pixels/pixels"}]}


@pytest.fixture
def before(context, checkpoint):  # noqa: F811
    """An evaluation as versions without the error of a reference stored it."""
    evaluation = evaluate(plan(context, checkpoint, "blobs", {}, suite(**SMALL)), context)
    with context.database.write() as session:
        session.execute(update(Score).values(stderr_reference=None, reference_method="", skewness=0.0))
    return evaluation


@pytest.fixture
def better(monkeypatch):
    """A better error of the metric."""
    spec = METRICS["frechet_distance"]
    monkeypatch.setitem(METRICS, "frechet_distance", replace(spec, error_version=spec.error_version + 1))


def only(context, evaluation):  # noqa: F811
    with context.database.read() as session:
        (row,) = queries.scores(session, evaluation=evaluation)
        return row, runs_beside(session, context.artifacts, [row])


def test_a_better_error_is_found_anew_under_the_same_value_and_protocol(context, before, better):  # noqa: F811
    old, old_runs = only(context, before)
    (found,) = rescore_stored(context)
    assert (found.evaluation, found.reason) == (before, "")
    new, new_runs = only(context, found.now)
    assert (new.value, new.protocol, new.stderr) == (old.value, old.protocol, old.stderr)
    assert (old.stderr_reference, old.reference_method) == (None, "")
    assert new.stderr_reference is not None or new.reference_method
    (again,) = rescore_stored(context, "pixels")
    assert again.now == found.now
    (difference,) = differences_of(Side([old], old_runs), Side([new], new_runs))
    assert difference.value == 0, "old and new scores are compared"
    (board,) = boards([old, replace(new, model="other", checkpoint_id=9)])
    assert (board.reference, board.unknown) == ("fixed", BEFORE)
    assert BEFORE in board.holds


def test_what_cannot_be_scored_again_says_why(context, home, before, better):  # noqa: F811
    for path in (home / "artifacts" / "samples").rglob("*.safetensors"):
        os.truncate(path, 100)
    (found,) = rescore_stored(context)
    assert (found.now, found.name) == (None, "blobs@10")
    assert found.reason == "some of its shards are missing or damaged: score the checkpoint"


def test_only_the_runs_of_the_suite_are_read(context, checkpoint, before):  # noqa: F811
    wanted = evaluate(plan(context, checkpoint, "blobs", {}, suite(**SMALL | {"name": "other"})), context)
    read = []

    def note(row, _):
        read.append(row.id)

    event.listen(Evaluation, "load", note)
    try:
        assert [each.evaluation for each in rescore_stored(context, "other")] == [wanted]
    finally:
        event.remove(Evaluation, "load", note)
    assert before not in read
