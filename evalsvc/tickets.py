"""What is on the queue, as coordinators see it in the rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import select

from evalsvc.lifecycle import Attempt, Deadlines, check
from evalsvc.shards import Shard, ShardKind, cut
from evalsvc.store import tables
from evalsvc.store.session import Database
from evalsvc.store.tables import IN_PROGRESS, Status


@dataclass(frozen=True)
class Ticket:
    """An attempt on the queue; ``requested_at`` tells it from one of the same number in another database."""

    attempt: Attempt
    status: Status
    priority: int
    requested_at: datetime
    deadlines: Deadlines


def tickets(database: Database) -> list[Ticket]:
    """Every attempt on the queue that is in progress, the most urgent first."""
    row = tables.Evaluation
    query = (
        select(row.id, row.attempt, row.status, row.priority, row.requested_at, row.deadlines)
        .where(row.on_queue, row.status.in_(IN_PROGRESS))
        .order_by(row.priority, row.requested_at, row.id)
    )
    with database.read() as session:
        return [
            Ticket(Attempt(id_, number), Status(status), priority, requested_at, Deadlines.model_validate(deadlines))
            for id_, number, status, priority, requested_at, deadlines in session.execute(query)
        ]


def missing_shards(database: Database, attempt: Attempt) -> list[Shard]:
    """Shards of an attempt that are not recorded as done.

    Raises:
        WithdrawnError: the attempt is no longer wanted.
    """
    check(database, attempt)
    with database.read() as session:
        row = session.get_one(tables.Evaluation, attempt.evaluation)
        there = {(shard.kind, shard.start) for shard in row.shards}
    size = row.spec["suite"]["shard"]
    due = (shard for kind, total in row.work.items() for shard in cut(cast(ShardKind, kind), total, size))
    return [shard for shard in due if (shard.kind, shard.start) not in there]
