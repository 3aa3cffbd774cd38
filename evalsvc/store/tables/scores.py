"""Scores, their protocols, and the files of an evaluation."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from evalsvc.store.tables.base import Table


class Protocol(Table):
    """The facts that make two scores comparable; its id is their digest."""

    __tablename__ = "protocols"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    facts: Mapped[dict[str, Any]]


class Score(Table):
    """One finite value with its uncertainty, under one protocol; of a slice, with the label of the whole score."""

    __tablename__ = "scores"
    __table_args__ = (
        UniqueConstraint("evaluation_id", "label"),
        # NaN equals itself on Postgres and is NULL on SQLite; the two bounds reject it, and infinity, on both.
        CheckConstraint("value > -1e308 AND value < 1e308", name="value_is_finite"),
        CheckConstraint("direction IN ('lower', 'higher', 'neutral')", name="direction"),
        Index("ix_scores_label_protocol_id_evaluation_id", "label", "protocol_id", "evaluation_id"),
        Index("ix_scores_label_id", "label", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))
    position: Mapped[int]
    label: Mapped[str] = mapped_column(String(100))
    quantity: Mapped[str] = mapped_column(String(100))
    value: Mapped[float]
    stderr: Mapped[float | None]
    ci_low: Mapped[float | None]
    ci_high: Mapped[float | None]
    n: Mapped[int]
    direction: Mapped[str] = mapped_column(String(10))
    unit: Mapped[str] = mapped_column(String(50))
    stderr_method: Mapped[str]
    details: Mapped[dict[str, Any]]
    protocol_id: Mapped[str] = mapped_column(ForeignKey("protocols.id"))
    slice_of: Mapped[str | None] = mapped_column(String(100))
    skewness: Mapped[float] = mapped_column(server_default="0")
    stderr_reference: Mapped[float | None]
    reference_method: Mapped[str] = mapped_column(server_default="")
    target: Mapped[float | None]
    target_stderr: Mapped[float | None]

    protocol: Mapped[Protocol] = relationship(lazy="joined")

    @classmethod
    def column(cls, name: str) -> ColumnElement[Any]:
        """Column that stores one of the :class:`evalsvc.core.columns.ScoreColumns` of a score."""
        stored: dict[str, Any] = {
            "protocol": cls.protocol_id,
            "independent": cls.details["independent"].as_integer(),
            "independent_unit": cls.details["independent_unit"].as_string(),
        }
        column: ColumnElement[Any] = stored[name] if name in stored else getattr(cls, name)
        return column


class Artifact(Table):
    """A file that belongs to an evaluation: gallery, neighbors."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("evaluation_id", "kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))
    kind: Mapped[str] = mapped_column(String(50))
    path: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
