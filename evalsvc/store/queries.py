"""Read-only queries that return plain rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Select, String, cast, exists, func, select
from sqlalchemy.orm import Session

from evalsvc.core.columns import ScoreColumns
from evalsvc.core.errors import InputError
from evalsvc.store import names, paged_queries
from evalsvc.store.names import FEW
from evalsvc.store.standing import of_suite, standing, standing_last
from evalsvc.store.tables import (
    Alias,
    Checkpoint,
    Evaluation,
    Gate,
    Model,
    Promotion,
    Protection,
    Protocol,
    Score,
    Status,
    Suite,
)


@dataclass(frozen=True)
class ScoreRow(ScoreColumns):
    """One current score with the ``facts`` of its protocol."""

    facts: Mapping[str, Any] = field(default_factory=dict)


def scores(
    session: Session,
    suite: str | None = None,
    model: str | None = None,
    evaluation: int | None = None,
    *,
    checkpoint: int | None = None,
    label: str | None = None,
) -> list[ScoreRow]:
    """Current scores, by model and step: of succeeded, not superseded evaluations, and of several seeds the newest."""
    which = standing(suite)
    if evaluation is not None:
        which = select(Evaluation.id).where(Evaluation.id == evaluation, Evaluation.status == Status.SUCCEEDED)
    if checkpoint is not None:
        which = which.where(Evaluation.checkpoint_id == checkpoint)
    if model is not None:
        mine = select(Checkpoint.id).join(Model).where(Model.name == model)
        which = which.where(Evaluation.checkpoint_id.in_(mine))
    return [row for rows in scores_of(session, which, *_labelled(label)).values() for row in rows]


def last_scores(session: Session, suite: str, label: str | None = None) -> list[ScoreRow]:
    """Scores at the last step of each model under a suite."""
    return [row for rows in scores_of(session, standing_last(suite), *_labelled(label)).values() for row in rows]


def chosen_scores(session: Session, ids: Sequence[int]) -> list[ScoreRow]:
    """The scores with these few ids, in this order."""
    which = Score.id.in_(ids)
    keys = session.execute(select(Score.id, Score.evaluation_id, Score.label).where(which)).all()
    by_evaluation = scores_of(session, {key.evaluation_id for key in keys}, which)
    rows = {(row.evaluation_id, row.label): row for rows in by_evaluation.values() for row in rows}
    by_id = {key.id: rows[key.evaluation_id, key.label] for key in keys}
    return [by_id[id_] for id_ in ids]


def _labelled(label: str | None) -> list[ColumnElement[bool]]:
    return [] if label is None else [Score.label == label]


def scores_of(
    session: Session, evaluations: Select[int] | Collection[int], *only: ColumnElement[bool]
) -> dict[int, list[ScoreRow]]:
    """The scores of evaluations, all or ``only`` some, by evaluation in the order of model and step."""
    query = (
        select(*(column.label(name) for name, column in EVALUATION_VALUES.items()))
        .join(Checkpoint, Evaluation.checkpoint_id == Checkpoint.id)
        .join(Model, Checkpoint.model_id == Model.id)
        .join(Suite, Evaluation.suite_id == Suite.id)
        .where(Evaluation.id.in_(evaluations))
        .order_by(Model.name, Checkpoint.step, Evaluation.id)
    )
    runs = session.execute(query).all()
    marks = names.marks(session, {run.checkpoint_id for run in runs})
    values = score_values(session, evaluations, *only)
    facts = _facts(session, {row[PROTOCOL] for rows in values.values() for row in rows})
    by_evaluation: dict[int, list[ScoreRow]] = {}
    for run in runs:
        mark = marks.get(run.checkpoint_id, "")
        of_each = ((*run, *row[:-1], mark, facts[row[PROTOCOL]]) for row in values.get(run.evaluation_id, ()))
        by_evaluation[run.evaluation_id] = [ScoreRow(*IN_ORDER(columns)) for columns in of_each]
    return by_evaluation


EVALUATION_VALUES: Mapping[str, Any] = {
    "model": Model.name,
    "family": Model.family,
    "step": Checkpoint.step,
    "digest": Checkpoint.digest,
    "configuration": Checkpoint.configuration,
    "checkpoint_id": Checkpoint.id,
    "evaluation_id": Evaluation.id,
    "suite": Suite.name + "@" + cast(Suite.version, String),
    "created_at": func.coalesce(Evaluation.finished_at, Evaluation.created_at),
}
"""Columns of a :class:`ScoreRow` that all scores of an evaluation share, besides its mark."""
SCORE_VALUES: Mapping[str, Any] = {
    each.name: Score.column(each.name)
    for each in fields(ScoreColumns)
    if each.name not in EVALUATION_VALUES and each.name != "mark"
}
"""Columns of a :class:`ScoreRow`, in its order, that each score has of its own."""
PROTOCOL = list(SCORE_VALUES).index("protocol")
_SELECTED = (*EVALUATION_VALUES, *SCORE_VALUES, "mark", "facts")
IN_ORDER = itemgetter(*(_SELECTED.index(each.name) for each in fields(ScoreRow)))
"""The columns of a row, of which there may be 200,000, in order."""


def score_values(
    session: Session, evaluations: Select[int] | Collection[int], *only: ColumnElement[bool]
) -> dict[int, list[Sequence[Any]]]:
    """The :data:`SCORE_VALUES` of the scores of evaluations with the evaluation's id, by evaluation and position."""
    query = select(*SCORE_VALUES.values(), Score.evaluation_id).where(Score.evaluation_id.in_(evaluations), *only)
    by_evaluation: dict[int, list[Sequence[Any]]] = {}
    # Over the connection: a session would add half of the time for each of up to 200,000 rows.
    for row in session.connection().execute(query).all():
        by_evaluation.setdefault(row[-1], []).append(row)
    for rows in by_evaluation.values():
        rows.sort(key=itemgetter(0))
    return by_evaluation


def _facts(session: Session, protocols: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """The facts of protocols, each parsed once."""
    wanted, facts = list(protocols), dict[str, Mapping[str, Any]]()
    for start in range(0, len(wanted), FEW):
        named = select(Protocol.id, Protocol.facts).where(Protocol.id.in_(wanted[start : start + FEW]))
        facts |= {row.id: row.facts for row in session.execute(named)}
    return facts


def suites(session: Session) -> list[str]:
    """``name@version`` of every suite with a current score, the most recently used first."""
    newest = (
        select(func.max(Evaluation.id))
        .where(Evaluation.suite_id == Suite.id, Evaluation.status == Status.SUCCEEDED)
        .scalar_subquery()
    )
    query = select(Suite.name, Suite.version).where(newest.is_not(None)).order_by(newest.desc())
    return [f"{name}@{version}" for name, version in session.execute(query)]


def pick_suite(session: Session, wanted: str | None) -> str:
    """The requested suite, or the one used last; unknown suites and an empty store raise an error with the way out."""
    known = suites(session)
    if not known:
        raise InputError("nothing has been scored yet: run 'evalsvc demo', or 'evalsvc score CHECKPOINT --suite SUITE'")
    if wanted is None:
        return known[0]
    matches = [suite for suite in known if wanted in (suite, suite.partition("@")[0])]
    if not matches:
        raise InputError(f"nothing has been scored under suite {wanted!r}: choose one of {', '.join(known)}")
    return max(matches, key=lambda suite: int(suite.partition("@")[2]))


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


def side(session: Session, checkpoint: Checkpoint, suite: str) -> tuple[str, list[ScoreRow]]:
    """One side of a comparison: the name of a checkpoint, and its scores under the suite."""
    title = names.title_of(session, checkpoint)
    rows = scores(session, suite=suite, checkpoint=checkpoint.id)
    if not rows:
        raise InputError(f"{title} has no scores under {suite}: score it first")
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


def suite_versions(session: Session, name: str) -> list[int]:
    """The used versions of a suite, in order."""
    return list(session.scalars(select(Suite.version).where(Suite.name == name).order_by(Suite.version)))


def suite_body(session: Session, name: str) -> dict[str, Any] | None:
    """The content of a suite when it was first used; without a version, its newest."""
    title, _, version = name.partition("@")
    query = select(Suite).where(Suite.name == title).order_by(Suite.version.desc()).limit(1)
    if names.is_number(version):
        query = query.where(Suite.version == int(version))
    body = session.scalar(query)
    return body.body if body else None
