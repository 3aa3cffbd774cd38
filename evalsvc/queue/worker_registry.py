"""Who works: each process's row, its heartbeat, and the verdict over those that were not heard of.

All times are by the database's clock, so that machines need not agree about theirs.
"""

from __future__ import annotations

import os
import socket
import uuid
from datetime import timedelta
from typing import Literal

from sqlalchemy import delete, select, update

from evalsvc.evaluation.progress import workers
from evalsvc.store.session import Database, clock
from evalsvc.store.tables import WORKING, Worker, WorkerStatus

Role = Literal["slot", "coordinator"]
KEPT = timedelta(days=1)
"""How long workers that have ended can still be seen."""


def new_name() -> str:
    """A name that was never used and never will be again: one for each start of a process."""
    return f"{socket.gethostname()}:{uuid.uuid4().hex[:12]}"


def register(database: Database, name: str, role: Role, device: str) -> None:
    """Add this process to the workers."""
    host, pid = socket.gethostname(), os.getpid()
    with database.write() as session:
        now = clock(session)
        session.execute(delete(Worker).where(Worker.status.not_in(WORKING), Worker.seen_at < now - KEPT))
        session.add(Worker(id=name, role=role, host=host, pid=pid, device=device, started_at=now, seen_at=now))


def beat(
    database: Database, worker: str, evaluation: int | None = None, stage: str | None = None, done: int = 0
) -> float | None:
    """Say that a worker lives and what it is at; seconds since it last did, ``None`` if it was given up meanwhile.

    A clock that was set looks like a silence, whichever way it was set.
    """
    with database.write() as session:
        row = session.get(Worker, worker, with_for_update=True)
        if row is None or row.status not in WORKING:
            return None
        now = clock(session)
        silent = abs((now - row.seen_at).total_seconds())
        row.seen_at, row.evaluation_id, row.stage, row.done = now, evaluation, stage, done
        return silent


def end(database: Database, worker: str, status: WorkerStatus) -> None:
    """Record that a worker drains, has stopped, or is known to be dead; what ended stays ended."""
    ended = {"evaluation_id": None, "stage": None, "done": 0} if status not in WORKING else {}
    with database.write() as session:
        session.execute(
            update(Worker).where(Worker.id == worker, Worker.status.in_(WORKING)).values(status=status, **ended)
        )


def give_up_silent(database: Database, me: str, dead_after: float) -> list[str]:
    """Declare lost all that were not heard of for ``dead_after`` seconds; nobody, if ``me`` was hardly heard of itself.

    After an outage of the database everybody's last word is old, and whoever is back first must not judge by it. Where
    the clock was set back, the dead were heard of in the future.
    """
    with database.write() as session:
        now = clock(session)
        seen = session.scalar(select(Worker.seen_at).where(Worker.id == me, Worker.status.in_(WORKING)))
        if seen is None or abs((now - seen).total_seconds()) > dead_after / 2:
            return []
        limit = timedelta(seconds=dead_after)
        heard_of = Worker.seen_at.between(now - limit, now + limit)
        silent = session.scalars(select(Worker).where(Worker.status.in_(WORKING), ~heard_of)).all()
        for row in silent:
            row.status, row.evaluation_id, row.stage, row.done = WorkerStatus.LOST, None, None, 0
        return [row.id for row in silent]


def living(database: Database) -> set[str]:
    """Workers whose work is theirs."""
    with database.read() as session:
        return {row.id for row in workers(session)}


def slots(database: Database) -> set[str]:
    """Workers that compute and take more."""
    query = select(Worker.id).where(Worker.role == "slot", Worker.status == WorkerStatus.ALIVE)
    with database.read() as session:
        return set(session.scalars(query))
