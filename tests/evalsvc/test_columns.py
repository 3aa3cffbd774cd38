"""A column added to a score or to an evaluation is in every document, or said to be in none."""

import json
from dataclasses import fields
from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from evalsvc.api import schemas
from evalsvc.api.server import serializers
from evalsvc.cli import documents, queue
from evalsvc.core.columns import Progress, ScoreColumns, Stage
from evalsvc.evaluation.recording import _row
from evalsvc.evaluation.sampling_units import SamplingUnits
from evalsvc.evaluation.scoring import LabelledScore
from evalsvc.metrics import score as metric_score
from evalsvc.store import queries, tables
from evalsvc.store.queries import ScoreRow

NOW = datetime(2026, 11, 28, tzinfo=UTC)
SCORE = ScoreRow(
    **{
        **{name: f"a {name}" for name in ("model", "family", "digest", "configuration", "suite", "label", "unit")},
        **{name: place for place, name in enumerate(("step", "checkpoint_id", "evaluation_id", "position", "n"), 1)},
        **{name: float(place) for place, name in enumerate(("ci_low", "value", "ci_high", "stderr"))},
        **{"direction": "lower", "stderr_method": "by hand", "protocol": "0123", "created_at": NOW},
        **{"independent": 7, "independent_unit": "prompts", "mark": "#9f2c"},
    },
    facts={"quantity": "q"},
)
EVALUATION = Progress(
    **{
        **{name: f"a {name}" for name in ("model", "digest", "configuration", "mark", "suite", "error", "by")},
        **{name: place for place, name in enumerate(("id", "step", "checkpoint_id", "attempt", "priority"), 1)},
        **dict.fromkeys(("requested_at", "started_at", "finished_at"), NOW),
        **{"status": "failed", "failure": "model", "stages": {"samples": Stage(3, 4)}, "fraction": 0.75, "ended": True},
    }
)
CALLED = {"protocol_id": "protocol"}
APART = {
    "id": "the row's own",
    "evaluation_id": "of the evaluation, beside its scores",
    "position": "the order of the scores",
    "quantity": "a fact of the protocol",
    "slice_of": "the label, label[tag=value], says it",
    "details": "numbers that a metric explains; 'independent' and its unit have columns of their own",
}
"""What the table of scores has and a score's document has not, and where it is instead."""
OPERATORS = {
    "suite_id": "the suite",
    "spec": "the configuration, the suite and the seed",
    "created_at": "the order of evaluations",
    "detail": "shown to operators alone",
    "on_queue": "the queue's own",
    "fresh": "the queue's own",
    "restricted": "the queue's own",
    "deadlines": "the queue's own",
    "begin_by": "the queue's own",
    "work": "the stages",
    "token": "whose quota it counts for",
}
"""What the table of evaluations has and no client is shown, and what it is."""


def sent(row, kind):
    """A row as a client has it."""
    return kind.model_validate_json(kind.model_validate(row).model_dump_json())


def columns(table):
    return {CALLED.get(name, name) for name in table.__table__.columns.keys()}  # noqa: SIM118


def test_every_column_of_the_scores_is_in_every_document():
    assert set(APART) <= columns(tables.Score)
    shown = columns(tables.Score) - set(APART) | {"independent", "independent_unit"}
    assert shown | {"position"} == set(queries.SCORE_VALUES)
    assert set(documents.evaluation_document([SCORE])["scores"][0]) == shown
    assert shown | {"position", "evaluation_id"} <= {each.name for each in fields(ScoreColumns)}


def test_a_score_of_the_store_of_the_api_and_of_a_client_has_the_same_columns_in_the_same_order():
    names = [each.name for each in fields(ScoreColumns)]
    assert [each.name for each in fields(ScoreRow)] == [*names, "facts"]
    assert list(schemas.Score.model_fields) == names
    arrived = sent(SCORE, schemas.Score)
    assert arrived.name == SCORE.name == "a model@1#9f2c"
    assert {name: getattr(arrived, name) for name in names} == {name: getattr(SCORE, name) for name in names}
    assert documents.evaluation_document([arrived]) == documents.evaluation_document([SCORE])


def test_all_that_a_metric_says_of_its_score_is_stored():
    found = metric_score.Score(
        "recall", 0.5, 0.1, 0.3, 0.7, 9, metric_score.Direction.HIGHER, "share", "by hand", MappingProxyType({"a": 1.0})
    )
    row = _row(LabelledScore("mine", found, {"quantity": "recall"}, SamplingUnits("noise/1")), 4)
    elsewhere = {
        "name": row.quantity,
        "influence": found.influence,
        "reference": found.reference,
        "details": {"a": 1.0},
    }
    for each in fields(found):
        expected = elsewhere[each.name] if each.name in elsewhere else getattr(row, each.name)
        assert getattr(found, each.name) == expected, each.name
    assert (row.label, row.position, row.details["a"], row.details["independent"]) == ("mine", 4, 1.0, 9)


def test_every_column_of_the_evaluations_is_told_or_said_to_be_no_clients_business():
    assert set(OPERATORS) <= columns(tables.Evaluation)
    told = {each.name for each in fields(Progress)}
    detailed = set(schemas.EvaluationDetail.model_fields)
    assert columns(tables.Evaluation) - set(OPERATORS) <= told | detailed
    assert told <= detailed


def test_an_evaluation_of_the_store_of_the_api_and_of_the_command_line_has_the_same_columns():
    names = [each.name for each in fields(Progress)]
    assert list(schemas.Evaluation.model_fields) == names
    assert list(queue.document(EVALUATION)) == names
    arrived = sent(EVALUATION, schemas.Evaluation)
    assert queue.document(arrived) == queue.document(EVALUATION)
    assert json.loads(serializers.evaluation(EVALUATION).model_dump_json())["stages"] == {
        "samples": {"done": 3, "due": 4}
    }


@pytest.mark.parametrize(
    ("row", "kind"), [(SCORE, schemas.Score), (EVALUATION, schemas.Evaluation)], ids=["score", "evaluation"]
)
def test_what_an_older_server_leaves_out_has_a_default(row, kind):
    body = json.loads(kind.model_validate(row).model_dump_json())
    for name in ("digest", "configuration", "mark"):
        del body[name]
    assert kind.model_validate(body).mark == ""
