"""Human preferences between samples."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    String,
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
