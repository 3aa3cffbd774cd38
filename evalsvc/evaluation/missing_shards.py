"""The shards of an attempt that remain to be computed."""

from __future__ import annotations

from typing import cast

from evalsvc.evaluation.attempts import Attempt, check
from evalsvc.evaluation.shards import Shard, ShardKind, cut
from evalsvc.store import tables
from evalsvc.store.session import Database


def missing_shards(database: Database, attempt: Attempt) -> list[Shard]:
    """Shards of an attempt that are not recorded as done.

    Raises:
        WithdrawnError: the attempt was superseded.
    """
    check(database, attempt)
    with database.read() as session:
        row = session.get_one(tables.Evaluation, attempt.evaluation)
        there = {(shard.kind, shard.start) for shard in row.shards}
    size = row.spec["suite"]["shard"]
    due = (shard for kind, total in row.work.items() for shard in cut(cast(ShardKind, kind), total, size))
    return [shard for shard in due if (shard.kind, shard.start) not in there]
