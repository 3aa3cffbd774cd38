"""Current evaluations: succeeded, and the newest of several seeds of a checkpoint under a suite.

The queries use indexes only and do not read rows of evaluations, which are long.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, func, select, tuple_

from evalsvc.store.tables import Checkpoint, Evaluation, Status, Suite


def of_suite(suite: str) -> ColumnElement[bool]:
    """Condition that an evaluation belongs to ``name@version``."""
    name, _, version = suite.partition("@")
    number = select(Suite.id).where(Suite.name == name, Suite.version == int(version)).scalar_subquery()
    return Evaluation.suite_id == number


def standing(suite: str | None = None) -> Select[int]:
    """Ids of the current evaluations, under one suite or under each."""
    query = select(func.max(Evaluation.id)).where(Evaluation.status == Status.SUCCEEDED)
    if suite is None:
        return query.group_by(Evaluation.suite_id, Evaluation.checkpoint_id)
    return query.where(of_suite(suite)).group_by(Evaluation.checkpoint_id)


def standing_last(suite: str) -> Select[int]:
    """Ids of the current evaluations under a suite at the last step of each model."""
    newest = (
        select(Evaluation.checkpoint_id, func.max(Evaluation.id).label("id"))
        .where(Evaluation.status == Status.SUCCEEDED, of_suite(suite))
        .group_by(Evaluation.checkpoint_id)
        .subquery()
    )
    rows = select(newest.c.id).join(Checkpoint, Checkpoint.id == newest.c.checkpoint_id)
    last = rows.with_only_columns(Checkpoint.model_id, func.max(Checkpoint.step)).group_by(Checkpoint.model_id)
    return rows.where(tuple_(Checkpoint.model_id, Checkpoint.step).in_(last))
