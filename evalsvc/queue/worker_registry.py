"""Registered worker processes: their rows, their heartbeats, and the detection of lost ones.

All times are by the database's clock, so that the clocks of the machines need not agree.
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
RETENTION = timedelta(days=1)
"""How long ended workers stay visible."""


def new_name() -> str:
    """A unique name, for each start of a process."""
    return f"{socket.gethostname()}:{uuid.uuid4().hex[:12]}"


def register(database: Database, name: str, role: Role, device: str) -> None:
    """Register this process as a worker."""
    host, pid = socket.gethostname(), os.getpid()
    with database.write() as session:
        now = clock(session)
        session.execute(delete(Worker).where(Worker.status.not_in(WORKING), Worker.seen_at < now - RETENTION))
        session.add(Worker(id=name, role=role, host=host, pid=pid, device=device, started_at=now, seen_at=now))


def beat(
    database: Database, worker: str, evaluation: int | None = None, stage: str | None = None, done: int = 0
) -> float | None:
    """Record a heartbeat and the current work of a worker; return the seconds since the previous one, or ``None`` if
    the worker was declared lost meanwhile.

    A clock change in either direction looks like a silence.
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
    """Record that a worker drains, has stopped, or is known to be dead; ended workers stay ended."""
    ended = {"evaluation_id": None, "stage": None, "done": 0} if status not in WORKING else {}
    with database.write() as session:
        session.execute(
            update(Worker).where(Worker.id == worker, Worker.status.in_(WORKING)).values(status=status, **ended)
        )


def declare_silent_lost(database: Database, me: str, dead_after: float) -> list[str]:
    """Declare all workers without a heartbeat for ``dead_after`` seconds lost; none if ``me`` has few heartbeats
    itself.

    After an outage of the database all heartbeats are old, so the first process that returns must not judge by them. If
    the clock was set back, heartbeats of dead workers lie in the future.
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
    """Workers that may hold work."""
    with database.read() as session:
        return {row.id for row in workers(session)}


def slots(database: Database) -> set[str]:
    """Workers that compute and accept more work."""
    query = select(Worker.id).where(Worker.role == "slot", Worker.status == WorkerStatus.ALIVE)
    with database.read() as session:
        return set(session.scalars(query))
