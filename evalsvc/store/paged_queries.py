"""Queries for long lists, which a pager orders and cuts into pages."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from evalsvc.store.names import begins
from evalsvc.store.tables import Checkpoint, Evaluation, Model, Score, Status, Suite


def models() -> Select[*tuple[Any, ...]]:
    """Each model with its number of checkpoints, last step and number of current evaluations.

    Computed for the models of a page only, from indexes only.
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
    """Ids of current scores, including replicates; a suite without a version matches all of its versions.
    Slices are left out, but for one that ``label`` names.

    Digests may be abbreviated. Without a filter on evaluations, a page scans the scores until it is full; with a
    filter, it selects among the scores of the matching evaluations.
    """
    query = select(Score.id)
    query = query.where(Score.slice_of.is_(None) if label is None else Score.label == label)
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
    """A text that changes when a current score appears or disappears, or names may change."""
    query = select(func.count(), func.sum(Evaluation.id), func.max(Evaluation.finished_at), func.max(Evaluation.id))
    current = session.execute(query.where(Evaluation.status == Status.SUCCEEDED)).one()
    return "-".join(map(str, [*current, session.scalar(select(func.max(Checkpoint.id)))]))
