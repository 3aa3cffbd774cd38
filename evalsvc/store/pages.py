"""Lists that grow without end, as queries that a pager cuts pages from; the pager orders them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from evalsvc.store.queries import current_scores
from evalsvc.store.tables import Checkpoint, Evaluation, Model, Score, Status, Suite


def models() -> Select[*tuple[Any, ...]]:
    """Each model with its number of checkpoints, its last step and its number of current evaluations."""
    return (
        select(
            Model,
            func.count(Checkpoint.id.distinct()),
            func.max(Checkpoint.step),
            func.count(Evaluation.id.distinct()).filter(Evaluation.status == Status.SUCCEEDED),
        )
        .outerjoin(Checkpoint, Checkpoint.model_id == Model.id)
        .outerjoin(Evaluation, Evaluation.checkpoint_id == Checkpoint.id)
        .group_by(Model.id)
    )


def scores(
    suite: str | None = None,
    model: str | None = None,
    step: int | None = None,
    label: str | None = None,
    digest: str = "",
    configuration: str = "",
) -> Select[*tuple[Any, ...]]:
    """Current scores, replicates included; a suite without a version stands for all of its versions.

    Of digests the first digits are enough.
    """
    query = current_scores()
    if suite is not None:
        name, _, version = suite.partition("@")
        query = query.where(Suite.name == name)
        if version:
            query = query.where(Suite.version == int(version))
    if model is not None:
        query = query.where(Model.name == model)
    if step is not None:
        query = query.where(Checkpoint.step == step)
    if label is not None:
        query = query.where(Score.label == label)
    if digest:
        query = query.where(Checkpoint.digest.startswith(digest))
    if configuration:
        query = query.where(Checkpoint.configuration.startswith(configuration))
    return query


def stamp(session: Session) -> str:
    """A text that is another one whenever a current score has come or gone."""
    counted = (Status.SUCCEEDED, Status.SUPERSEDED)
    query = select(func.count(), func.sum(Evaluation.id), func.max(Evaluation.finished_at)).where(
        Evaluation.status.in_(counted)
    )
    newest = select(func.max(Evaluation.id)).where(Evaluation.status == Status.SUCCEEDED)
    return "-".join(map(str, [*session.execute(query).one(), session.scalar(newest)]))
