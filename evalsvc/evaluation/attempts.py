"""Attempts at an evaluation and their state changes: started, shard recorded, failed, restarted.

Every change is one transaction on one row, which rejects superseded attempts.
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
"""Seconds; later dates are out of the range of a database."""


@dataclass(frozen=True)
class Attempt:
    """Permission to write the results of an evaluation; it ends when another attempt starts or the worker is lost."""

    evaluation: int
    number: int
    worker: str | None = None


def start(database: Database, attempt: Attempt) -> None:
    """Start an attempt, or resume it.

    Raises:
        WithdrawnError: the attempt was superseded, or its evaluation has ended.
    """
    with database.write() as session:
        row = lock_attempt(session, attempt)
        begins = row.status == Status.QUEUED
        if begins:
            row.status, row.started_at = Status.RUNNING, clock(session)
    if begins:
        log_change(row)


def check(database: Database, attempt: Attempt) -> None:
    """Raise :class:`WithdrawnError` if the attempt was superseded; one short read, called between batches."""
    worker = select(tables.Worker.status).where(tables.Worker.id == attempt.worker).scalar_subquery()
    state = select(tables.Evaluation.status, tables.Evaluation.attempt, worker.label("worker"))
    with database.read() as session:
        row = session.execute(state.where(tables.Evaluation.id == attempt.evaluation)).one()
    _refuse(attempt, row.status, row.attempt, row.worker)


def lock_attempt(session: Session, attempt: Attempt) -> tables.Evaluation:
    """Lock the attempt's evaluation until the end of the transaction; every write about it needs this lock.

    Raises:
        WithdrawnError: another attempt has started, the evaluation has ended, or the worker was given up.
    """
    row = locked(session, attempt.evaluation)
    state = select(tables.Worker.status).where(tables.Worker.id == attempt.worker)
    worker = session.scalar(state.with_for_update(read=True)) if attempt.worker else None
    _refuse(attempt, row.status, row.attempt, worker)
    return row


def record_shard(
    database: Database, attempt: Attempt, *, kind: str, start: int, stop: int, path: str, cost: Cost | None
) -> None:
    """Record that a shard's file is on disk, and its cost.

    Raises:
        WithdrawnError: the attempt was superseded.
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
    """Start the next attempt in place of a lost one; superseded attempts are ignored."""
    with suppress(WithdrawnError), database.write() as session:
        begin_again(session, lock_attempt(session, attempt))


def fail(database: Database, attempt: Attempt, failure: Failure, reason: str, detail: str = "") -> None:
    """End a failed attempt; superseded attempts are ignored. Only operators can read ``detail``."""
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
    """Log the start or end of an evaluation after the commit."""
    why = f" ({row.failure}): {row.error}" if row.failure else ""
    name = f"{row.checkpoint.model.name}@{row.checkpoint.step}"
    suite = f"{row.suite.name}@{row.suite.version}"
    facts = logs.fields(
        evaluation=row.id, checkpoint=name, suite=suite, status=row.status, attempt=row.attempt, failure=row.failure
    )
    level = logging.WARNING if row.failure else logging.INFO
    log.log(level, "evaluation %d, %s under %s, is %s%s", row.id, name, suite, row.status, why, extra=facts)


def locked(session: Session, evaluation: int) -> tables.Evaluation:
    """Lock the row of an evaluation until the end of the transaction.

    Raises:
        InputError: the evaluation does not exist.
    """
    # Not its key: a heartbeat, which locks the worker's row and refers to the evaluation, must not wait for this lock.
    lock = {"of": tables.Evaluation, "key_share": True}
    row = session.get(tables.Evaluation, evaluation, with_for_update=lock, populate_existing=True)
    if row is None:
        raise InputError(f"there is no evaluation {evaluation}: list them with 'evalsvc status'")
    return row


def begin_again(session: Session, row: tables.Evaluation) -> None:
    """Queue a row for its next attempt."""
    row.attempt += 1
    row.status, row.requested_at = Status.QUEUED, clock(session)
    row.begin_by = begin_by(row)
    row.started_at = row.finished_at = row.failure = row.error = row.detail = None


def begin_by(row: tables.Evaluation) -> datetime | None:
    """Deadline for a worker to start a row, or ``None``."""
    limit = row.deadlines.get("queued")
    return None if limit is None else row.requested_at + timedelta(seconds=min(limit, LONGEST_WAIT))


def _refuse(attempt: Attempt, status: str, number: int, worker: str | None) -> None:
    """Raise an error with the reason unless the attempt may continue in these states of row and worker."""
    if attempt.worker and worker not in WORKING:
        raise WithdrawnError(f"worker {attempt.worker} missed its heartbeat deadline; its work was reassigned")
    if number != attempt.number:
        raise WithdrawnError(
            f"evaluation {attempt.evaluation}: attempt {attempt.number} was superseded by attempt {number}"
        )
    if status not in IN_PROGRESS:
        raise WithdrawnError(f"evaluation {attempt.evaluation} was {status} while it was being computed")
