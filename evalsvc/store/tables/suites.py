"""Suites, and their references."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from evalsvc.store.tables.base import DatabaseTime, Table


class Reference(Table):
    """A named set of real samples on disk; ``stamp`` detects modified files without reading them.

    ``skipped`` are the unreadable files that were excluded on request, ``reading`` the options by which the files are
    read.
    """

    __tablename__ = "references"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    modality: Mapped[str] = mapped_column(String(20))
    path: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    stamp: Mapped[str] = mapped_column(String(64))
    count: Mapped[int]
    skipped: Mapped[list[str]] = mapped_column(default=list)
    reading: Mapped[dict[str, Any]] = mapped_column(default=dict)
    heldout_path: Mapped[str | None]
    heldout_digest: Mapped[str | None] = mapped_column(String(64))
    heldout_stamp: Mapped[str | None] = mapped_column(String(64))
    heldout_count: Mapped[int | None]
    heldout_skipped: Mapped[list[str]] = mapped_column(default=list)
    heldout_reading: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())


class Suite(Table):
    """A suite as it was when it was first used; the meaning of a name and version never changes."""

    __tablename__ = "suites"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
