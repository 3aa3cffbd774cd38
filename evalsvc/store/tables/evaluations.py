"""Evaluations and the shards that they are cut into."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

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
from evalsvc.store.tables.suites import Suite

if TYPE_CHECKING:
    from evalsvc.store.tables.scores import Artifact, Score


class Status(StrEnum):
    """Life of an evaluation."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


IN_PROGRESS = (Status.QUEUED, Status.RUNNING)


class Failure(StrEnum):
    """Why an evaluation failed. After ``model`` another try gives the same; after the others it may go well."""

    INFRASTRUCTURE = "infrastructure"
    MODEL = "model"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"


class Evaluation(Table):
    """One checkpoint under one suite. At most one is in progress, and one current, for a fingerprint.

    ``attempt`` counts how often it was asked for; what an older attempt brings late is refused. Only where ``on_queue``
    do workers take it up, and one that none has begun by ``begin_by`` fails. A ``fresh`` one computes its shards again,
    whatever others left under their names. ``work`` says how many samples and items each kind of shard is cut from.
    ``by`` asked for it (a token's name, or a user's), and ``token`` is the one whose quota it counts for;
    ``restricted`` says that it was a client of the API. Operators read ``detail`` beside ``error``; clients do not.

    ``device_seconds``, ``peak_memory`` (bytes) and ``energy`` (joules) are of all attempts; the energy is NULL as soon
    as a part of it is not known.
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
        # The queue in its order, and what has waited too long.
        Index("ix_evaluations_queue", "status", "on_queue", "priority", "requested_at", "id"),
        Index("ix_evaluations_deadline", "status", "on_queue", "begin_by"),
        # What stands under a suite, and the newest of it, without the rows themselves, which are long.
        Index("ix_evaluations_standing", "suite_id", "status", "checkpoint_id", "id"),
        Index("ix_evaluations_checkpoint_id_status", "checkpoint_id", "status"),
        # What is counted, and what tells that anything has changed.
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
    scores: Mapped[list[Score]] = relationship(back_populates="evaluation", order_by="Score.position")
    artifacts: Mapped[list[Artifact]] = relationship(order_by="Artifact.kind")
    shards: Mapped[list[Shard]] = relationship(order_by="Shard.kind, Shard.start")

    def charge(self, cost: Cost) -> None:
        """Add what a piece of its work cost."""
        self.device_seconds += cost.seconds
        self.peak_memory = max(self.peak_memory or 0, cost.peak_memory or 0) or None
        self.energy = None if self.energy is None or cost.energy is None else self.energy + cost.energy


class Shard(Table):
    """A contiguous range of samples whose arrays are on disk; no ``seconds`` where an earlier run computed it."""

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
