"""Read and record the share of the level that decisions about a candidate have spent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import func, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from evalsvc.gates.spending import Account, Earlier, History
from evalsvc.store.tables import Gate, GateSpending


def read_history(session: Session, accounts: Iterable[Account]) -> History:
    """The decisions that were recorded in any of these accounts, and the largest share that one of the accounts has
    spent.
    """
    wanted = sorted(set(accounts))
    fresh = session.scalar(select(Gate.id).limit(1)) is None
    if not wanted:
        return History(fresh=fresh)
    key = tuple_(GateSpending.candidate, GateSpending.configuration, GateSpending.protocol, GateSpending.baseline)
    booked = key.in_([tuple(account) for account in wanted])
    columns = (GateSpending.candidate, GateSpending.configuration, GateSpending.protocol, GateSpending.baseline)
    shares = session.scalars(select(func.sum(GateSpending.share)).where(booked).group_by(*columns))
    rows = select(Gate).where(Gate.id.in_(select(GateSpending.gate_id).where(booked))).order_by(Gate.id)
    decisions = tuple(_earlier(row) for row in session.scalars(rows))
    return History(decisions, max(shares, default=0.0), fresh)


def book(session: Session, gate: int, accounts: Iterable[Account], share: float) -> bool:
    """Record a decision in its accounts, with a share of 0 if it repeats another. Return False if another decision was
    recorded in one of the accounts at the same moment.
    """
    for account in sorted(set(accounts)):
        number = select(func.count()).where(
            GateSpending.candidate == account.candidate,
            GateSpending.configuration == account.configuration,
            GateSpending.protocol == account.protocol,
            GateSpending.baseline == account.baseline,
        )
        session.add(GateSpending(gate_id=gate, number=session.scalar(number) or 0, share=share, **account._asdict()))
    try:
        session.flush()
    except IntegrityError:
        return False
    return True


def _earlier(row: Gate) -> Earlier:
    spending: dict[str, Any] = row.evidence["spending"]
    return Earlier(
        gate=row.id,
        at=row.created_at.isoformat(timespec="seconds"),
        status=row.status,
        shadow=row.shadow,
        seeds=tuple(spending["seeds"]),
        saw=spending["saw"],
        limits=spending["limits"],
        metrics=row.policy["metrics"],
        samples=spending["samples"],
        replicates=spending["replicates"],
        fractions=tuple(spending["fractions"]),
        share=spending["share"],
    )
