"""Pending evaluations, as coordinators read them from the rows."""

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
    """An attempt on the queue; ``requested_at`` distinguishes it from an attempt with the same number in another
    database.
    """

    attempt: Attempt
    status: Status
    priority: int
    requested_at: datetime


def pending_evaluations(database: Database, evaluations: Collection[int] | None = None) -> list[PendingEvaluation]:
    """Unfinished attempts, most urgent first: all of them, or those of some evaluations."""
    mine = [] if evaluations is None else [_ROW.id.in_(evaluations)]
    return _read(database, _pending_evaluations(_ROW.status.in_(IN_PROGRESS), *mine))


def pending(database: Database, active: Collection[int], ahead: int) -> list[PendingEvaluation]:
    """The attempts that a coordinator decides about, most urgent first, independent of how many others wait.

    These are the running attempts, those ``active`` in the engine, and the ``ahead`` most urgent waiting ones.
    """
    return _read(
        database,
        _pending_evaluations(_ROW.status == Status.RUNNING),
        _pending_evaluations(_ROW.status.in_(IN_PROGRESS), _ROW.id.in_(active)),
        _pending_evaluations(_ROW.status == Status.QUEUED).limit(ahead),
    )


def overdue(database: Database) -> list[tuple[Attempt, float]]:
    """Attempts that no worker started before their deadline, with their limits in seconds."""
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
