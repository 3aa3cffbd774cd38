"""What is on the queue, as coordinators see it in the rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, select

from evalsvc.evaluation.attempts import Attempt
from evalsvc.store import tables
from evalsvc.store.session import Database
from evalsvc.store.tables import IN_PROGRESS, DatabaseTime, Status

_ROW = tables.Evaluation
_URGENCY = _ROW.priority, _ROW.requested_at, _ROW.id


@dataclass(frozen=True)
class PendingEvaluation:
    """An attempt on the queue; ``requested_at`` tells it from one of the same number in another database."""

    attempt: Attempt
    status: Status
    priority: int
    requested_at: datetime


def pending_evaluations(database: Database, evaluations: Collection[int] | None = None) -> list[PendingEvaluation]:
    """Attempts on the queue that are in progress, the most urgent first; all, or those of some evaluations."""
    mine = [] if evaluations is None else [_ROW.id.in_(evaluations)]
    return _read(database, _pending_evaluations(_ROW.status.in_(IN_PROGRESS), *mine))


def pending(database: Database, active: Collection[int], ahead: int) -> list[PendingEvaluation]:
    """The attempts that a coordinator decides about, the most urgent first, however many others wait.

    Those that run, those that are ``active`` in the engine, and the ``ahead`` most urgent of those that wait.
    """
    return _read(
        database,
        _pending_evaluations(_ROW.status == Status.RUNNING),
        _pending_evaluations(_ROW.status.in_(IN_PROGRESS), _ROW.id.in_(active)),
        _pending_evaluations(_ROW.status == Status.QUEUED).limit(ahead),
    )


def overdue(database: Database) -> list[tuple[Attempt, float]]:
    """Attempts that nobody began by their deadline, with the seconds that they could have waited."""
    query = select(_ROW.id, _ROW.attempt, _ROW.deadlines).where(
        _ROW.begin_by < DatabaseTime(), _ROW.status == Status.QUEUED, _ROW.on_queue
    )
    with database.read() as session:
        return [(Attempt(id_, number), deadlines["queued"]) for id_, number, deadlines in session.execute(query)]


def _pending_evaluations(*which: ColumnElement[bool]) -> Select[int, int, str, int, datetime]:
    columns = _ROW.id, _ROW.attempt, _ROW.status, _ROW.priority, _ROW.requested_at
    return select(*columns).where(_ROW.on_queue, *which).order_by(*_URGENCY)


def _read(database: Database, *queries: Select[int, int, str, int, datetime]) -> list[PendingEvaluation]:
    with database.read() as session:
        rows = {row.id: row for query in queries for row in session.execute(query)}
    found = [PendingEvaluation(Attempt(row.id, row.attempt), Status(row.status), *row[3:]) for row in rows.values()]
    return sorted(found, key=lambda each: (each.priority, each.requested_at, each.attempt.evaluation))
