"""Evaluations and their shards."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from evalsvc.core.cost import Cost
from evalsvc.store.tables.base import DatabaseTime, Table
from evalsvc.store.tables.models import Checkpoint
from evalsvc.store.tables.scores import Artifact, Score
from evalsvc.store.tables.suites import Suite


class Status(StrEnum):
    """Status of an evaluation."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


IN_PROGRESS = (Status.QUEUED, Status.RUNNING)


class Failure(StrEnum):
    """Failure class of an evaluation. ``model`` failures are reproducible; the others may succeed on retry."""

    INFRASTRUCTURE = "infrastructure"
    MODEL = "model"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"


class Evaluation(Table):
    """One checkpoint under one suite. Each fingerprint has at most one evaluation in progress and one current.

    ``attempt`` counts the attempts; late results of superseded attempts are rejected. Workers run only evaluations that
    are ``on_queue``, and one that is not started by ``begin_by`` fails. A ``fresh`` one recomputes its shards, even if
    they exist. ``work`` is the number of samples and items of each kind of shard. ``by`` requested it (the name of a
    token or user), ``token`` is charged for it, and ``restricted`` marks requests of clients of the API. ``detail``
    supplements ``error`` for operators; clients cannot read it.

    ``device_seconds``, ``peak_memory`` (bytes) and ``energy`` (joules) cover all attempts; ``energy`` is NULL if any
    part of it is unknown.
    """

    __tablename__ = "evaluations"
    __table_args__ = (
        Index(
            "uq_evaluations_in_progress",
            "checkpoint_id",
            "fingerprint",
            unique=True,
            sqlite_where=text("status IN ('queued', 'running')"),
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
        Index(
            "uq_evaluations_current",
            "checkpoint_id",
            "fingerprint",
            unique=True,
            sqlite_where=text("status = 'succeeded'"),
            postgresql_where=text("status = 'succeeded'"),
        ),
        CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'superseded')", name="status"
        ),
        # The queue in its order, and evaluations that have waited too long.
        Index("ix_evaluations_queue", "status", "on_queue", "priority", "requested_at", "id"),
        Index("ix_evaluations_deadline", "status", "on_queue", "begin_by"),
        # Current evaluations of a suite, and the newest of them, without reading the rows, which are long.
        Index("ix_evaluations_standing", "suite_id", "status", "checkpoint_id", "id"),
        Index("ix_evaluations_checkpoint_id_status", "checkpoint_id", "status"),
        # Counts, and the stamp of changes.
        Index("ix_evaluations_token_status", "token", "status"),
        Index("ix_evaluations_counted", "status", "failure", "finished_at", "requested_at", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id"))
    suite_id: Mapped[int] = mapped_column(ForeignKey("suites.id"))
    fingerprint: Mapped[str] = mapped_column(String(64), index=True)
    status: Mapped[str] = mapped_column(String(20))
    spec: Mapped[dict[str, Any]]
    provenance: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[str | None]
    detail: Mapped[str | None]
    failure: Mapped[str | None] = mapped_column(String(20))
    attempt: Mapped[int] = mapped_column(default=1)
    priority: Mapped[int] = mapped_column(default=10)
    on_queue: Mapped[bool] = mapped_column(default=False)
    fresh: Mapped[bool] = mapped_column(default=False)
    restricted: Mapped[bool] = mapped_column(default=False)
    deadlines: Mapped[dict[str, Any]] = mapped_column(default=dict)
    work: Mapped[dict[str, Any]] = mapped_column(default=dict)
    by: Mapped[str] = mapped_column(String(200), default="")
    token: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
    device_seconds: Mapped[float] = mapped_column(default=0.0)
    peak_memory: Mapped[int | None] = mapped_column(BigInteger)
    energy: Mapped[float | None] = mapped_column(default=0.0)
    requested_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
    begin_by: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    checkpoint: Mapped[Checkpoint] = relationship(lazy="joined")
    suite: Mapped[Suite] = relationship(lazy="joined")
    scores: Mapped[list[Score]] = relationship(order_by="Score.position")
    artifacts: Mapped[list[Artifact]] = relationship(order_by="Artifact.kind")
    shards: Mapped[list[Shard]] = relationship(order_by="Shard.kind, Shard.start")

    def charge(self, cost: Cost) -> None:
        """Add the cost of a part of its work."""
        self.device_seconds += cost.seconds
        self.peak_memory = max(self.peak_memory or 0, cost.peak_memory or 0) or None
        self.energy = None if self.energy is None or cost.energy is None else self.energy + cost.energy


class Shard(Table):
    """A contiguous range of samples whose arrays are on disk; ``seconds`` is empty if an earlier run computed it."""

    __tablename__ = "shards"
    __table_args__ = (UniqueConstraint("evaluation_id", "kind", "start"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))
    kind: Mapped[str] = mapped_column(String(20))
    start: Mapped[int]
    stop: Mapped[int]
    path: Mapped[str]
    seconds: Mapped[float | None]
    worker: Mapped[str | None] = mapped_column(String(200))
    finished_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
