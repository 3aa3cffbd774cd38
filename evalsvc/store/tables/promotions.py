"""Promotions of aliases, and their protections."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from evalsvc.store.tables.base import DatabaseTime, Table
from evalsvc.store.tables.models import Checkpoint


class PromotionKind(StrEnum):
    """Cause of a change of an alias: first use, a gate, manual, or a rollback."""

    FIRST = "first"
    GATE = "gate"
    SET = "set"
    ROLLBACK = "rollback"


class Promotion(Table):
    """A change of an alias, with its actor and cause; ``gate_id`` is the gate decision that allowed it, if any."""

    __tablename__ = "promotions"
    __table_args__ = (CheckConstraint("kind IN ('first', 'gate', 'set', 'rollback')", name="kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(String(200), index=True)
    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id"))
    gate_id: Mapped[int | None] = mapped_column(ForeignKey("gates.id"))
    kind: Mapped[str] = mapped_column(String(20))
    by: Mapped[str] = mapped_column(String(200), default="")
    reason: Mapped[str] = mapped_column(String(500), default="")
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())

    checkpoint: Mapped[Checkpoint] = relationship(lazy="joined")


class Protection(Table):
    """The policy whose decisions move an alias, as it was when it was pinned; ended protections are kept."""

    __tablename__ = "protections"
    __table_args__ = (
        Index(
            "uq_protections_alias",
            "alias",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(String(200))
    suite: Mapped[str] = mapped_column(String(200))
    suite_digest: Mapped[str] = mapped_column(String(64))
    policy_digest: Mapped[str] = mapped_column(String(64))
    policy: Mapped[dict[str, Any]]
    by: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
    ended_by: Mapped[str | None] = mapped_column(String(200))
    ended_at: Mapped[datetime | None]
