"""Lists that grow without end, as queries that a pager cuts pages from; the pager orders them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from evalsvc.store.names import begins
from evalsvc.store.tables import Checkpoint, Evaluation, Model, Score, Status, Suite


def models() -> Select[*tuple[Any, ...]]:
    """Each model with its number of checkpoints, its last step and its number of current evaluations.

    Counted for the models of a page alone, from indexes alone.
    """
    mine = select(Checkpoint.id).where(Checkpoint.model_id == Model.id)
    current = select(func.count()).where(
        Evaluation.checkpoint_id.in_(mine.correlate(Model)), Evaluation.status == Status.SUCCEEDED
    )
    return select(
        Model,
        mine.with_only_columns(func.count()).correlate(Model).scalar_subquery(),
        mine.with_only_columns(func.max(Checkpoint.step)).correlate(Model).scalar_subquery(),
        current.correlate(Model).scalar_subquery(),
    )


def scores(
    suite: str | None = None,
    model: str | None = None,
    step: int | None = None,
    label: str | None = None,
    digest: str = "",
    configuration: str = "",
) -> Select[int]:
    """Ids of current scores, replicates included; a suite without a version stands for all of its versions.

    Of digests the first digits are enough. Without a filter on evaluations a page walks along the scores until it is
    full; with one it chooses among the scores of those that match.
    """
    query = select(Score.id)
    if label is not None:
        query = query.where(Score.label == label)
    runs = select(Evaluation.id).where(Evaluation.status == Status.SUCCEEDED)
    mine = select(Checkpoint.id)
    if suite is not None:
        name, _, version = suite.partition("@")
        under = select(Suite.id).where(Suite.name == name)
        runs = runs.where(Evaluation.suite_id.in_(under.where(Suite.version == int(version)) if version else under))
    if model is not None:
        mine = mine.join(Model).where(Model.name == model)
    if step is not None:
        mine = mine.where(Checkpoint.step == step)
    if digest:
        mine = mine.where(begins(Checkpoint.digest, digest))
    if configuration:
        mine = mine.where(begins(Checkpoint.configuration, configuration))
    if mine.whereclause is not None:
        runs = runs.where(Evaluation.checkpoint_id.in_(mine))
    elif suite is None:
        status = select(Evaluation.status).where(Evaluation.id == Score.evaluation_id).scalar_subquery()
        return query.where(status == Status.SUCCEEDED)
    return query.where(Score.evaluation_id.in_(runs))


def stamp(session: Session) -> str:
    """A text that is another one whenever a current score has come or gone, or names may be others."""
    query = select(func.count(), func.sum(Evaluation.id), func.max(Evaluation.finished_at), func.max(Evaluation.id))
    current = session.execute(query.where(Evaluation.status == Status.SUCCEEDED)).one()
    return "-".join(map(str, [*current, session.scalar(select(func.max(Checkpoint.id)))]))
