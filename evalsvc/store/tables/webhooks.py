"""Webhooks and their pending messages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    ForeignKey,
    String,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from evalsvc.store.tables.base import DatabaseTime, Table


class Webhook(Table):
    """An address that receives events.

    The secret that signs its messages is derived from ``salt`` under the key that :mod:`evalsvc.core.secret_keys`
    identifies as ``key``. Without such a key, it is random and stored as ``secret``.
    """

    __tablename__ = "webhooks"

    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(JSON)
    secret: Mapped[str | None] = mapped_column(String(100))
    salt: Mapped[str | None] = mapped_column(String(64))
    key: Mapped[str | None] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
    failing_since: Mapped[datetime | None]
    last_error: Mapped[str | None]


class Delivery(Table):
    """A pending message of a webhook, written in the transaction of its event."""

    __tablename__ = "deliveries"

    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"), index=True)
    event: Mapped[str] = mapped_column(String(50))
    body: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
    due_at: Mapped[datetime] = mapped_column(default=DatabaseTime(), index=True)

    webhook: Mapped[Webhook] = relationship(lazy="joined")
