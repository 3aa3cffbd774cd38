"""How many evaluations wait, run and fail, and which failed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session, contains_eager

from evalsvc.store import names
from evalsvc.store.standing import of_suite, standing
from evalsvc.store.tables import (
    Checkpoint,
    Evaluation,
    Model,
    Status,
)


@dataclass(frozen=True)
class Failed:
    """A failed evaluation without scores, and its error; ``name`` and ``line`` are those of a point of a plot."""

    name: str
    line: str
    model: str
    step: int
    status: str
    error: str
    created_at: datetime


def failed(session: Session, suite: str, models: Collection[str]) -> list[Failed]:
    """Checkpoints of some models whose last evaluation under a suite failed without scores."""
    last = (select(func.max(Evaluation.id)).where(of_suite(suite)).group_by(Evaluation.checkpoint_id)).scalar_subquery()
    query = (
        select(Checkpoint, Evaluation.status, Evaluation.error, Evaluation.created_at)
        .join(Checkpoint, Evaluation.checkpoint_id == Checkpoint.id)
        .join(Model, Checkpoint.model_id == Model.id)
        .options(contains_eager(Checkpoint.model))
        .where(
            Evaluation.id.in_(last),
            Evaluation.status == Status.FAILED,
            Evaluation.checkpoint_id.not_in(select(Evaluation.checkpoint_id).where(Evaluation.id.in_(standing(suite)))),
        )
        .order_by(Model.name, Checkpoint.step)
    )
    if models:
        query = query.where(Model.name.in_(models))
    rows = session.execute(query).all()
    titles, series = names.titles(session, [row[0] for row in rows]), names.series(session)
    failures = []
    for row, status, error, at in rows:
        line = row.model.name + series[row.model.name, row.configuration]
        failures.append(Failed(titles[row.id], line, row.model.name, row.step, status, error or "", at))
    return failures


def counts(session: Session) -> dict[Status, int]:
    """Number of evaluations in each status."""
    query = select(Evaluation.status, func.count()).group_by(Evaluation.status)
    return {Status(status): count for status, count in session.execute(query)}


def oldest_waiting(session: Session) -> datetime | None:
    """Time of the request that has waited longest."""
    return session.scalar(select(func.min(Evaluation.requested_at)).where(Evaluation.status == Status.QUEUED))


def failure_classes(session: Session) -> dict[str, int]:
    """Number of failed evaluations by failure class, the most frequent first."""
    query = select(Evaluation.failure, func.count()).where(Evaluation.status == Status.FAILED)
    classes = session.execute(query.group_by(Evaluation.failure).order_by(func.count().desc()))
    return {kind or "unknown": count for kind, count in classes}
