"""Preferences between samples: those of people, and the judgments of judges."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKey,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from evalsvc.store.tables.base import DatabaseTime, Table


class Rating(Table):
    """The preferred one of two samples with the same number, in a blind comparison; ``left`` as displayed."""

    __tablename__ = "ratings"
    __table_args__ = (CheckConstraint("outcome IN ('left', 'right', 'tie')", name="outcome"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    suite: Mapped[str] = mapped_column(String(200), index=True)
    left_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))
    right_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))
    sample: Mapped[int]
    outcome: Mapped[str] = mapped_column(String(10))
    rater: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())


class Judgment(Table):
    """A judge's points for the first of two evaluations on each sample, in the order in which samples are taken.

    ``points`` are 1 (the first won in both orders), 1/2 and 0; samples with an unparsed answer are left out.
    ``protocol`` is the digest of all that can change an answer. A new run of the same judge replaces the row.
    """

    __tablename__ = "judgments"
    __table_args__ = (UniqueConstraint("first_id", "second_id", "protocol"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    suite: Mapped[str] = mapped_column(String(200), index=True)
    first_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))
    second_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))
    judge: Mapped[str] = mapped_column(String(200))
    protocol: Mapped[str] = mapped_column(String(64))
    samples: Mapped[list[int]] = mapped_column(JSON)
    points: Mapped[list[float]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
