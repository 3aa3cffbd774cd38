"""Models, the cost of their evaluations, and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from evalsvc.store import paged_queries
from evalsvc.store.tables import (
    Checkpoint,
    Evaluation,
    Model,
    Status,
    Suite,
)


def models(session: Session) -> list[tuple[Model, int, int, int]]:
    """Each model with its number of checkpoints, last step and number of current evaluations."""
    known = exists().where(Checkpoint.model_id == Model.id)
    return [tuple(row) for row in session.execute(paged_queries.models().where(known).order_by(Model.name))]


@dataclass(frozen=True)
class ModelCost:
    """Cost of all evaluations of a model, including failed and superseded ones.

    ``energy`` (joules) is that of ``metered`` out of ``evaluations``: it could not be measured for the others.
    """

    device_seconds: float = 0.0
    peak_memory: int | None = None
    energy: float | None = None
    metered: int = 0
    evaluations: int = 0


def costs(session: Session) -> dict[int, ModelCost]:
    """Cost by the model's id."""
    query = (
        select(
            Checkpoint.model_id,
            func.sum(Evaluation.device_seconds),
            func.max(Evaluation.peak_memory),
            func.sum(Evaluation.energy),
            func.count(Evaluation.energy),
            func.count(),
        )
        .join(Evaluation, Evaluation.checkpoint_id == Checkpoint.id)
        .where(Evaluation.device_seconds > 0)
        .group_by(Checkpoint.model_id)
    )
    return {row[0]: ModelCost(row[1], row[2], row[3], row[4], row[5]) for row in session.execute(query)}


def checkpoints(session: Session, model: str | None = None) -> list[Checkpoint]:
    """Checkpoints by model and step."""
    query = select(Checkpoint).join(Model).order_by(Model.name, Checkpoint.step, Checkpoint.id)
    if model is not None:
        query = query.where(Model.name == model)
    return list(session.scalars(query))


def known_by_digest(session: Session, model: str, digest: str) -> list[Checkpoint]:
    """The checkpoints of a model with this content, in all configurations, newest first."""
    query = select(Checkpoint).join(Model).where(Model.name == model, Checkpoint.digest == digest)
    return list(session.scalars(query.order_by(Checkpoint.id.desc())))


def scored_before(session: Session, candidate: Checkpoint, suite: str) -> list[Checkpoint]:
    """Checkpoints of the candidate's model before its step that have current scores under a suite, last step first.

    They have the candidate's generator and options; of several at one step, the newest.
    """
    name, _, version = suite.partition("@")
    query = (
        select(Checkpoint)
        .where(
            Checkpoint.model_id == candidate.model_id,
            Checkpoint.step < candidate.step,
            Checkpoint.generator == candidate.generator,
            Checkpoint.id.in_(
                select(Evaluation.checkpoint_id)
                .join(Suite)
                .where(Evaluation.status == Status.SUCCEEDED, Suite.name == name, Suite.version == int(version))
            ),
        )
        .order_by(Checkpoint.step.desc(), Checkpoint.id.desc())
    )
    alike = [row for row in session.scalars(query) if row.options == candidate.options]
    return list({row.step: row for row in reversed(alike)}.values())[::-1]
