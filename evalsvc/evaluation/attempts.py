"""An attempt at an evaluation, and what whoever works on it writes: begun, shards done, failed, begun again.

Every change is one transaction over one row, which refuses an attempt that is no longer wanted.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from evalsvc.core.cost import Cost
from evalsvc.core.errors import InputError, WithdrawnError
from evalsvc.core.observability import logs
from evalsvc.evaluation import quotas
from evalsvc.store import outbox, tables
from evalsvc.store.session import Database, clock
from evalsvc.store.tables import IN_PROGRESS, WORKING, Failure, Status

log = logging.getLogger(__name__)

LONGEST_DETAIL = 4000
"""Characters."""
LONGEST_WAIT = 1e9
"""Seconds; a date beyond it is none that a database holds."""


@dataclass(frozen=True)
class Attempt:
    """A right to write about an evaluation; it ends when another attempt begins, or the worker is given up."""

    evaluation: int
    number: int
    worker: str | None = None


def start(database: Database, attempt: Attempt) -> None:
    """Begin an attempt, or go on with it.

    Raises:
        WithdrawnError: the attempt is no longer wanted.
    """
    with database.write() as session:
        row = lock_attempt(session, attempt)
        begins = row.status == Status.QUEUED
        if begins:
            row.status, row.started_at = Status.RUNNING, clock(session)
    if begins:
        log_change(row)


def check(database: Database, attempt: Attempt) -> None:
    """Raise :class:`WithdrawnError` if the attempt is no longer wanted; one short read, made between batches."""
    worker = select(tables.Worker.status).where(tables.Worker.id == attempt.worker).scalar_subquery()
    state = select(tables.Evaluation.status, tables.Evaluation.attempt, worker.label("worker"))
    with database.read() as session:
        row = session.execute(state.where(tables.Evaluation.id == attempt.evaluation)).one()
    _refuse(attempt, row.status, row.attempt, row.worker)


def lock_attempt(session: Session, attempt: Attempt) -> tables.Evaluation:
    """The attempt's evaluation, locked until the end of the transaction; nobody writes about it without this.

    Raises:
        WithdrawnError: another attempt has begun, the evaluation has ended, or the worker was given up.
    """
    row = locked(session, attempt.evaluation)
    state = select(tables.Worker.status).where(tables.Worker.id == attempt.worker)
    worker = session.scalar(state.with_for_update(read=True)) if attempt.worker else None
    _refuse(attempt, row.status, row.attempt, worker)
    return row


def record_shard(
    database: Database, attempt: Attempt, *, kind: str, start: int, stop: int, path: str, cost: Cost | None
) -> None:
    """Record that a shard's file is on disk, and what it cost.

    Raises:
        WithdrawnError: the attempt is no longer wanted.
    """
    with database.write() as session:
        row = lock_attempt(session, attempt)
        if cost:
            row.charge(cost)
            quotas.charge(session, row.token, cost.seconds)
        same = select(tables.Shard).where(
            tables.Shard.evaluation_id == attempt.evaluation, tables.Shard.kind == kind, tables.Shard.start == start
        )
        if session.scalar(same) is None:
            session.add(
                tables.Shard(
                    evaluation_id=attempt.evaluation,
                    kind=kind,
                    start=start,
                    stop=stop,
                    path=path,
                    seconds=cost.seconds if cost else None,
                    worker=attempt.worker,
                )
            )


def restart_attempt(database: Database, attempt: Attempt) -> None:
    """Begin the next attempt in place of one that was lost; one that is no longer wanted changes nothing."""
    with suppress(WithdrawnError), database.write() as session:
        begin_again(session, lock_attempt(session, attempt))


def fail(database: Database, attempt: Attempt, failure: Failure, reason: str, detail: str = "") -> None:
    """End an attempt that failed; one that is no longer wanted changes nothing. The operator alone reads ``detail``."""
    try:
        with database.write() as session:
            row = lock_attempt(session, attempt)
            row.status, row.failure, row.error, row.finished_at = Status.FAILED, failure, reason, clock(session)
            row.detail = detail[:LONGEST_DETAIL] or None
            outbox.evaluation_ended(session, row)
    except WithdrawnError:
        return
    log_change(row)


def log_change(row: tables.Evaluation) -> None:
    """Log that an evaluation has begun or ended, once that is stored."""
    why = f" ({row.failure}): {row.error}" if row.failure else ""
    name = f"{row.checkpoint.model.name}@{row.checkpoint.step}"
    suite = f"{row.suite.name}@{row.suite.version}"
    facts = logs.fields(
        evaluation=row.id, checkpoint=name, suite=suite, status=row.status, attempt=row.attempt, failure=row.failure
    )
    level = logging.WARNING if row.failure else logging.INFO
    log.log(level, "evaluation %d, %s under %s, is %s%s", row.id, name, suite, row.status, why, extra=facts)


def locked(session: Session, evaluation: int) -> tables.Evaluation:
    """The row of an evaluation, locked until the end of the transaction.

    Raises:
        InputError: there is none.
    """
    # Its key stays: a heartbeat, which holds the worker's row and names the evaluation, need not wait for this.
    lock = {"of": tables.Evaluation, "key_share": True}
    row = session.get(tables.Evaluation, evaluation, with_for_update=lock, populate_existing=True)
    if row is None:
        raise InputError(f"there is no evaluation {evaluation}: 'evalsvc status' lists them")
    return row


def begin_again(session: Session, row: tables.Evaluation) -> None:
    """Put a row on the queue for its next attempt."""
    row.attempt += 1
    row.status, row.requested_at = Status.QUEUED, clock(session)
    row.begin_by = begin_by(row)
    row.started_at = row.finished_at = row.failure = row.error = row.detail = None


def begin_by(row: tables.Evaluation) -> datetime | None:
    """Until when a worker must begin with a row; ``None`` where it may wait for ever."""
    limit = row.deadlines.get("queued")
    return None if limit is None else row.requested_at + timedelta(seconds=min(limit, LONGEST_WAIT))


def _refuse(attempt: Attempt, status: str, number: int, worker: str | None) -> None:
    """Raise, with the reason, unless an attempt may go on with a row and a worker in these states."""
    if attempt.worker and worker not in WORKING:
        raise WithdrawnError(f"worker {attempt.worker} was not heard of in time, and its work was given to another")
    if number != attempt.number:
        raise WithdrawnError(
            f"evaluation {attempt.evaluation}: attempt {attempt.number} brings nothing any more, attempt {number} does"
        )
    if status not in IN_PROGRESS:
        raise WithdrawnError(f"evaluation {attempt.evaluation} was {status} while it was being computed")
