"""Decisions of gates, and the aliases that they moved."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from evalsvc.store.tables import (
    Alias,
    Checkpoint,
    Gate,
    Promotion,
    Protection,
)


def gates(
    session: Session, model: str | None = None, suite: str | None = None, limit: int = 50, checkpoint: int | None = None
) -> list[Gate]:
    """Gate decisions, newest first."""
    query = select(Gate).order_by(Gate.id.desc()).limit(limit)
    if checkpoint is not None:
        query = query.where(Gate.checkpoint_id == checkpoint)
    if model is not None:
        query = query.where(Gate.model == model)
    if suite is not None:
        query = query.where(Gate.suite == suite)
    return list(session.scalars(query))


def passed_gates(session: Session, candidate: Checkpoint, suite: str) -> Iterator[tuple[Checkpoint, Gate]]:
    """Checkpoints of the candidate's model that passed binding gates, newest first; not its own content."""
    query = (
        select(Checkpoint, Gate)
        .join(Gate, Gate.checkpoint_id == Checkpoint.id)
        .where(
            Checkpoint.model_id == candidate.model_id,
            Checkpoint.digest != candidate.digest,
            Gate.suite == suite,
            Gate.status == "PASS",
            Gate.shadow.is_(False),
        )
        .order_by(Gate.id.desc())
    )
    yield from session.execute(query)


def aliases(session: Session) -> list[Alias]:
    """Every alias, by name."""
    return list(session.scalars(select(Alias).order_by(Alias.name)))


def promotions(session: Session, alias: str | None = None, limit: int = 50) -> list[Promotion]:
    """Changes of aliases, newest first."""
    query = select(Promotion).order_by(Promotion.id.desc()).limit(limit)
    if alias is not None:
        query = query.where(Promotion.alias == alias)
    return list(session.scalars(query))


def protections(session: Session, alias: str | None = None) -> list[Protection]:
    """Policies that protect or protected aliases, newest first."""
    query = select(Protection).order_by(Protection.id.desc())
    if alias is not None:
        query = query.where(Protection.alias == alias)
    return list(session.scalars(query))
