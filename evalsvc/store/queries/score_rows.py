"""Scores as rows, for comparison and display."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Select, String, cast, func, select
from sqlalchemy.orm import Session

from evalsvc.core.columns import ScoreColumns
from evalsvc.store import names
from evalsvc.store.names import FEW
from evalsvc.store.standing import standing, standing_last
from evalsvc.store.tables import (
    Checkpoint,
    Evaluation,
    Model,
    Protocol,
    Score,
    Status,
    Suite,
)


@dataclass(frozen=True)
class ScoreRow(ScoreColumns):
    """One current score with the ``facts`` of its protocol."""

    facts: Mapping[str, Any] = field(default_factory=dict)


def scores(
    session: Session,
    suite: str | None = None,
    model: str | None = None,
    evaluation: int | None = None,
    *,
    checkpoint: int | None = None,
    label: str | None = None,
) -> list[ScoreRow]:
    """Current scores, by model and step: of succeeded, not superseded evaluations, and of several seeds the newest.

    Slices are left out, but for one that ``label`` names.
    """
    which = standing(suite)
    if evaluation is not None:
        which = select(Evaluation.id).where(Evaluation.id == evaluation, Evaluation.status == Status.SUCCEEDED)
    if checkpoint is not None:
        which = which.where(Evaluation.checkpoint_id == checkpoint)
    if model is not None:
        mine = select(Checkpoint.id).join(Model).where(Model.name == model)
        which = which.where(Evaluation.checkpoint_id.in_(mine))
    return [row for rows in scores_of(session, which, *_labelled(label)).values() for row in rows]


def last_scores(session: Session, suite: str, label: str | None = None) -> list[ScoreRow]:
    """Scores at the last step of each model under a suite."""
    return [row for rows in scores_of(session, standing_last(suite), *_labelled(label)).values() for row in rows]


def chosen_scores(session: Session, ids: Sequence[int]) -> list[ScoreRow]:
    """The scores with these few ids, in this order."""
    which = Score.id.in_(ids)
    keys = session.execute(select(Score.id, Score.evaluation_id, Score.label).where(which)).all()
    by_evaluation = scores_of(session, {key.evaluation_id for key in keys}, which)
    rows = {(row.evaluation_id, row.label): row for rows in by_evaluation.values() for row in rows}
    by_id = {key.id: rows[key.evaluation_id, key.label] for key in keys}
    return [by_id[id_] for id_ in ids]


def slices(session: Session, evaluation: int, label: str) -> list[ScoreRow]:
    """The slices of one score of a succeeded evaluation, in the order of their values, the worst slice last."""
    return scores_of(session, [evaluation], Score.slice_of == label).get(evaluation, [])


def slices_by_score(session: Session, evaluation: int) -> dict[str, list[ScoreRow]]:
    """All slices of a succeeded evaluation by the label of their score, from the worst value.

    The worst slice, whose interval covers the worst true value, comes first.
    """
    rows = scores_of(session, [evaluation], Score.slice_of.is_not(None)).get(evaluation, [])
    signed = {"lower": -1.0, "higher": 1.0, "neutral": -1.0}
    rows.sort(key=lambda row: (not row.label.endswith("[worst]"), signed[row.direction] * row.value))
    found: dict[str, list[ScoreRow]] = {}
    for row in rows:
        found.setdefault(row.label[: row.label.rindex("[")], []).append(row)
    return found


def _labelled(label: str | None) -> list[ColumnElement[bool]]:
    return [Score.slice_of.is_(None) if label is None else Score.label == label]


def scores_of(
    session: Session, evaluations: Select[int] | Collection[int], *only: ColumnElement[bool]
) -> dict[int, list[ScoreRow]]:
    """The scores of evaluations, all or ``only`` some, by evaluation in the order of model and step."""
    query = (
        select(*(column.label(name) for name, column in EVALUATION_VALUES.items()))
        .join(Checkpoint, Evaluation.checkpoint_id == Checkpoint.id)
        .join(Model, Checkpoint.model_id == Model.id)
        .join(Suite, Evaluation.suite_id == Suite.id)
        .where(Evaluation.id.in_(evaluations))
        .order_by(Model.name, Checkpoint.step, Evaluation.id)
    )
    runs = session.execute(query).all()
    marks = names.marks(session, {run.checkpoint_id for run in runs})
    values = score_values(session, evaluations, *only)
    facts = _facts(session, {row[PROTOCOL] for rows in values.values() for row in rows})
    by_evaluation: dict[int, list[ScoreRow]] = {}
    for run in runs:
        mark = marks.get(run.checkpoint_id, "")
        of_each = ((*run, *row[:-1], mark, facts[row[PROTOCOL]]) for row in values.get(run.evaluation_id, ()))
        by_evaluation[run.evaluation_id] = [ScoreRow(*IN_ORDER(columns)) for columns in of_each]
    return by_evaluation


EVALUATION_VALUES: Mapping[str, Any] = {
    "model": Model.name,
    "family": Model.family,
    "step": Checkpoint.step,
    "digest": Checkpoint.digest,
    "configuration": Checkpoint.configuration,
    "checkpoint_id": Checkpoint.id,
    "evaluation_id": Evaluation.id,
    "suite": Suite.name + "@" + cast(Suite.version, String),
    "created_at": func.coalesce(Evaluation.finished_at, Evaluation.created_at),
}
"""Columns of a :class:`ScoreRow` that all scores of an evaluation share, besides its mark."""
SCORE_VALUES: Mapping[str, Any] = {
    each.name: Score.column(each.name)
    for each in fields(ScoreColumns)
    if each.name not in EVALUATION_VALUES and each.name != "mark"
}
"""Columns of a :class:`ScoreRow`, in its order, that each score has of its own."""
PROTOCOL = list(SCORE_VALUES).index("protocol")
_SELECTED = (*EVALUATION_VALUES, *SCORE_VALUES, "mark", "facts")
IN_ORDER = itemgetter(*(_SELECTED.index(each.name) for each in fields(ScoreRow)))
"""The columns of a row, of which there may be 200,000, in order."""


def score_values(
    session: Session, evaluations: Select[int] | Collection[int], *only: ColumnElement[bool]
) -> dict[int, list[Sequence[Any]]]:
    """The :data:`SCORE_VALUES` of the scores of evaluations with the evaluation's id, by evaluation and position."""
    query = select(*SCORE_VALUES.values(), Score.evaluation_id).where(Score.evaluation_id.in_(evaluations), *only)
    by_evaluation: dict[int, list[Sequence[Any]]] = {}
    # Over the connection: a session would add half of the time for each of up to 200,000 rows.
    for row in session.connection().execute(query).all():
        by_evaluation.setdefault(row[-1], []).append(row)
    for rows in by_evaluation.values():
        rows.sort(key=itemgetter(0))
    return by_evaluation


def _facts(session: Session, protocols: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """The facts of protocols, each parsed once."""
    wanted, facts = list(protocols), dict[str, Mapping[str, Any]]()
    for start in range(0, len(wanted), FEW):
        named = select(Protocol.id, Protocol.facts).where(Protocol.id.in_(wanted[start : start + FEW]))
        facts |= {row.id: row.facts for row in session.execute(named)}
    return facts
