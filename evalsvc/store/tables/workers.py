"""Worker processes."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    String,
)
from sqlalchemy.orm import Mapped, mapped_column

from evalsvc.store.tables.base import Table


class WorkerStatus(StrEnum):
    """Status of a worker process. ``lost`` is set by another process after a missed heartbeat and is final."""

    ALIVE = "alive"
    DRAINING = "draining"
    STOPPED = "stopped"
    LOST = "lost"


WORKING = (WorkerStatus.ALIVE, WorkerStatus.DRAINING)


class Worker(Table):
    """One process that works for the queue. ``seen_at`` is by the database's clock, as all comparisons with it are.

    A slot reports its progress: ``done`` samples of an unfinished shard of ``stage``.
    """

    __tablename__ = "workers"
    __table_args__ = (
        CheckConstraint("role IN ('slot', 'coordinator')", name="role"),
        CheckConstraint("status IN ('alive', 'draining', 'stopped', 'lost')", name="status"),
    )

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    role: Mapped[str] = mapped_column(String(20))
    host: Mapped[str] = mapped_column(String(200))
    pid: Mapped[int]
    device: Mapped[str] = mapped_column(String(50))
    status: Mapped[str] = mapped_column(String(20), default=WorkerStatus.ALIVE)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    evaluation_id: Mapped[int | None] = mapped_column(ForeignKey("evaluations.id"))
    stage: Mapped[str | None] = mapped_column(String(20))
    done: Mapped[int] = mapped_column(default=0)
