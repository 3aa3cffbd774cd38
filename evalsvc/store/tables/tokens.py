"""Tokens of the HTTP API, and the use of their quotas."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    String,
)
from sqlalchemy.orm import Mapped, mapped_column

from evalsvc.store.tables.base import DatabaseTime, Table


class Scope(StrEnum):
    """Permissions of a token. ``submit`` and ``worker`` include reading; ``admin`` includes everything."""

    READ = "read"
    SUBMIT = "submit"
    WORKER = "worker"
    ADMIN = "admin"


class Token(Table):
    """Access to the HTTP API. Only the sha256 of the secret is stored."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class QuotaUse(Table):
    """Usage of the tokens with one name on one UTC day: see :mod:`evalsvc.evaluation.quotas`."""

    __tablename__ = "quota_use"

    token: Mapped[str] = mapped_column(String(200), primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    device_seconds: Mapped[float] = mapped_column(default=0.0)
    upload_bytes: Mapped[int] = mapped_column(BigInteger, default=0)


class UploadUse(Table):
    """An upload charged to a token; it has no digest while it is in progress."""

    __tablename__ = "upload_use"

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(String(200), index=True)
    digest: Mapped[str | None] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
