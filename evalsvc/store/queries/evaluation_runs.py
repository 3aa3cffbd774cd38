"""Evaluations of a checkpoint, and their scores side by side."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from evalsvc.core.errors import InputError
from evalsvc.store import names
from evalsvc.store.queries.score_rows import ScoreRow, scores, scores_of
from evalsvc.store.standing import of_suite
from evalsvc.store.tables import (
    Checkpoint,
    Evaluation,
    Status,
)


def side(session: Session, checkpoint: Checkpoint, suite: str, label: str | None = None) -> tuple[str, list[ScoreRow]]:
    """One side of a comparison: the name of a checkpoint, and its scores under the suite, or the one with a label."""
    title = names.title_of(session, checkpoint)
    rows = scores(session, suite=suite, checkpoint=checkpoint.id, label=label)
    if not rows:
        what = "scores" if label is None else f"score {label!r}"
        raise InputError(f"{title} has no {what} under {suite}: score it first")
    return title, rows


def evaluations(session: Session, checkpoint: int) -> list[Evaluation]:
    """All evaluations of a checkpoint, newest first."""
    query = select(Evaluation).where(Evaluation.checkpoint_id == checkpoint).order_by(Evaluation.id.desc())
    return list(session.scalars(query))


def replicates(session: Session, checkpoint: Checkpoint, suite: str) -> dict[int, list[ScoreRow]]:
    """Current scores of one content in one configuration under one suite, by sampling seed, for any label.

    Of several runs with one seed, the newest is returned.
    """
    same = select(Checkpoint.id).where(
        Checkpoint.digest == checkpoint.digest, Checkpoint.configuration == checkpoint.configuration
    )
    # As a list: without statistics, a database underestimates the result of a subquery.
    ids = session.scalars(same).all()
    query = (
        select(Evaluation.id, Evaluation.spec["seed"].as_integer())
        .where(Evaluation.checkpoint_id.in_(ids), Evaluation.status == Status.SUCCEEDED, of_suite(suite))
        .order_by(Evaluation.id)
    )
    seeds = {seed: run for run, seed in session.execute(query)}
    by_evaluation = scores_of(session, seeds.values())
    return {seed: by_evaluation[run] for seed, run in seeds.items()}
