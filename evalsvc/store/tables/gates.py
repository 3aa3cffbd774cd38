"""Gate decisions, and the share of the error level that each spent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from evalsvc.store.tables.base import DatabaseTime, Table


class Gate(Table):
    """One decision about one checkpoint under one policy: the evidence at the time, and the verdict.

    ``checkpoint_id`` is the judged checkpoint in its configuration; empty if no checkpoint was found.
    """

    __tablename__ = "gates"
    __table_args__ = (
        CheckConstraint(
            "status IN ('PASS', 'FAIL', 'INCONCLUSIVE', 'MISSING', 'NOT_COMPARABLE', 'ERROR')", name="status"
        ),
        Index("ix_gates_model_suite_status", "model", "suite", "status"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    suite: Mapped[str] = mapped_column(String(200))
    model: Mapped[str] = mapped_column(String(200))
    step: Mapped[int | None] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))
    checkpoint_id: Mapped[int | None] = mapped_column(ForeignKey("checkpoints.id"), index=True)
    baseline: Mapped[str]
    policy_digest: Mapped[str] = mapped_column(String(64))
    policy: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(20))
    exit_code: Mapped[int]
    shadow: Mapped[bool]
    evidence: Mapped[dict[str, Any]]
    verdict: Mapped[dict[str, Any]]
    by: Mapped[str] = mapped_column(String(200), default="")
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime(), index=True)


class GateSpending(Table):
    """The share of the error level spent by one decision, booked to one account: see :mod:`evalsvc.gates.spending`.

    ``number`` counts the decisions of an account: of two concurrent decisions, only one is booked.
    """

    __tablename__ = "gate_spending"
    __table_args__ = (UniqueConstraint("candidate", "configuration", "protocol", "baseline", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    gate_id: Mapped[int] = mapped_column(ForeignKey("gates.id"), index=True)
    candidate: Mapped[str] = mapped_column(String(64))
    configuration: Mapped[str] = mapped_column(String(64))
    protocol: Mapped[str] = mapped_column(String(32))
    baseline: Mapped[str] = mapped_column(String(64))
    number: Mapped[int]
    share: Mapped[float]
