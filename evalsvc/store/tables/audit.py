"""Audit log."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    String,
)
from sqlalchemy.orm import Mapped, mapped_column

from evalsvc.store.tables.base import Table


class ActorKind(StrEnum):
    """Kind of actor: a token of the API, a session of the pages, a user of the operating system, a worker process."""

    TOKEN = "token"
    PAGE = "page"
    USER = "user"
    WORKER = "worker"


class Outcome(StrEnum):
    """Result of an action. ``unchanged``: the requested object already existed."""

    DONE = "done"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


class AuditEntry(Table):
    """One action of one actor (:mod:`evalsvc.store.audit`). ``token_id`` outlives its token: no foreign key."""

    __tablename__ = "audit"
    __table_args__ = (
        CheckConstraint("actor_kind IN ('token', 'page', 'user', 'worker')", name="actor_kind"),
        CheckConstraint("outcome IN ('done', 'unchanged', 'refused')", name="outcome"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor_kind: Mapped[str] = mapped_column(String(10))
    actor: Mapped[str] = mapped_column(String(200), index=True)
    token_id: Mapped[int | None]
    address: Mapped[str] = mapped_column(String(64))
    request: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(300), index=True)
    outcome: Mapped[str] = mapped_column(String(20))
    detail: Mapped[dict[str, Any]]
