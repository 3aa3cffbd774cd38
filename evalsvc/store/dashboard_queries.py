"""Queries over thousands of checkpoints, filtered and counted by the database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from evalsvc.core.cost import SPEED
from evalsvc.store import names
from evalsvc.store.queries import EVALUATION_VALUES, SCORE_VALUES
from evalsvc.store.standing import of_suite, standing, standing_last
from evalsvc.store.tables import (
    Alias,
    Artifact,
    Checkpoint,
    Evaluation,
    Gate,
    Model,
    Promotion,
    Protocol,
    Score,
    Status,
)


@dataclass(frozen=True)
class Filter:
    """Filter on the checkpoints of a suite; an empty field does not restrict."""

    suite: str
    models: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Measured:
    """A label under one protocol, among a suite's current evaluations."""

    label: str
    protocol: str
    direction: Literal["lower", "higher", "neutral"]
    unit: str
    facts: Mapping[str, Any]
    checkpoints: int


@dataclass(frozen=True)
class Point:
    """One score of one checkpoint, for a plot or a table."""

    model: str
    family: str
    step: int
    checkpoint_id: int
    evaluation_id: int
    value: float
    stderr: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    direction: str
    created_at: datetime
    digest: str
    configuration: str
    stderr_reference: float | None = None
    reference_method: str = ""
    target: float | None = None
    target_stderr: float | None = None
    mark: str = ""
    series: str = ""

    @property
    def name(self) -> str:
        """``model@step``, with a mark that distinguishes it from others with that label."""
        return f"{self.model}@{self.step}{self.mark}"

    @property
    def line(self) -> str:
        """The model in its configuration, which is one line in plots over training."""
        return f"{self.model}{self.series}"


def revision(session: Session) -> tuple[Any, ...]:
    """A stamp that changes with everything that pages show."""
    runs = select(
        Evaluation.status,
        func.count(),
        func.max(Evaluation.id),
        func.max(Evaluation.requested_at),
        func.max(Evaluation.finished_at),
    ).group_by(Evaluation.status)
    newest = (session.scalar(select(func.max(each))) for each in (Gate.id, Promotion.id, Alias.updated_at))
    return (*map(tuple, session.execute(runs.order_by(Evaluation.status))), *newest)


def measured(session: Session, suite: str, *, last: bool = False) -> list[Measured]:
    """Every label and protocol with current scores under a suite, in the suite's order, without slices.

    ``last`` restricts them to the last step of each model.
    """
    which = standing_last(suite) if last else standing(suite)
    counted = (
        select(
            Score.label,
            Score.protocol_id,
            func.min(Score.direction).label("direction"),
            func.min(Score.unit).label("unit"),
            func.max(Score.position).label("position"),
            func.count().label("checkpoints"),
        )
        .where(Score.evaluation_id.in_(which), Score.slice_of.is_(None))
        .group_by(Score.label, Score.protocol_id)
        .subquery()
    )
    query = select(counted, Protocol.facts).join(Protocol, Protocol.id == counted.c.protocol_id)
    rows = session.execute(query).all()
    places = label_places((row.label, row.position) for row in rows)
    rows = sorted(rows, key=lambda row: (places[row.label], row.protocol_id))
    return [Measured(r.label, r.protocol_id, r.direction, r.unit, r.facts, r.checkpoints) for r in rows]


def label_places(positions: Iterable[tuple[str, int]]) -> dict[str, tuple[int, str]]:
    """Positions of labels in a suite's order: the last position, because an evaluation may lack earlier labels."""
    last: dict[str, int] = {}
    for label, position in positions:
        last[label] = max(last.get(label, 0), position)
    return {label: (position, label) for label, position in last.items()}


def models(session: Session, suite: str) -> list[tuple[str, str]]:
    """Name and family of every model with a current score under a suite."""
    scored = (
        select(Checkpoint.model_id)
        .join(Evaluation, Evaluation.checkpoint_id == Checkpoint.id)
        .where(Evaluation.id.in_(standing(suite)))
    )
    query = select(Model.name, Model.family).where(Model.id.in_(scored)).order_by(Model.name)
    return [(name, family) for name, family in session.execute(query)]


def entries(session: Session, suite: str, model: str) -> list[str]:
    """Names of the checkpoints of a model with a current score under a suite, by step."""
    query = (
        select(Checkpoint)
        .distinct()
        .join(Model, Checkpoint.model_id == Model.id)
        .join(Evaluation, Evaluation.checkpoint_id == Checkpoint.id)
        .where(Model.name == model, Evaluation.id.in_(standing(suite)))
        .order_by(Checkpoint.step, Checkpoint.id)
    )
    rows = list(session.scalars(query))
    return list(names.titles(session, rows).values())


def points(
    session: Session, wanted: Filter, label: str, protocol: str, which: Literal["latest", "all"] = "all"
) -> list[Point]:
    """One score of every selected checkpoint, by model and step; ``latest`` selects each model's last step."""
    query = _points(wanted).where(Score.label == label, Score.protocol_id == protocol)
    if which == "latest":
        place = func.rank().over(partition_by=Checkpoint.model_id, order_by=Checkpoint.step.desc()).label("place")
        inner = query.add_columns(place).subquery()
        query = select(*[column for column in inner.c if column.name != "place"]).where(inner.c.place == 1)
    return _named(session, query)


def scored(session: Session, wanted: Filter) -> list[Point]:
    """Every checkpoint with scores under any protocol, by model and step, with one of its scores."""
    one = select(func.min(Score.id)).where(Score.evaluation_id.in_(_newest(wanted))).group_by(Score.evaluation_id)
    return _named(session, _points(None).where(Score.id.in_(one)))


def _named(session: Session, query: Select[*tuple[Any, ...]]) -> list[Point]:
    rows = session.execute(query).all()
    marks, series = names.marks(session, {row.checkpoint_id for row in rows}), names.series(session)
    points = [Point(*(*row, marks.get(row.checkpoint_id, ""), series[row.model, row.configuration])) for row in rows]
    return sorted(points, key=lambda point: (point.model, point.step, point.mark))


def cells(
    session: Session, evaluations: Collection[int], labels: Collection[str] = ()
) -> dict[int, dict[tuple[str, str], Point]]:
    """All scores but slices, or those of some labels, of evaluations: by evaluation, then by label and protocol."""
    query = _points(None).add_columns(Score.label, Score.protocol_id).where(Score.evaluation_id.in_(evaluations))
    query = query.where(Score.label.in_(labels) if labels else Score.slice_of.is_(None))
    rows = session.execute(query.order_by(Score.position)).all()
    marks = names.marks(session, {row.checkpoint_id for row in rows})
    cells: dict[int, dict[tuple[str, str], Point]] = {}
    for *point, label, protocol in rows:
        made = replace(made := Point(*point), mark=marks.get(made.checkpoint_id, ""))
        cells.setdefault(made.evaluation_id, {})[label, protocol] = made
    return cells


def sliced(session: Session, evaluation: int) -> list[str]:
    """The labels of the scores of an evaluation that have slices, in the suite's order."""
    query = select(Score.slice_of).where(Score.evaluation_id == evaluation, Score.slice_of.is_not(None))
    return [
        label for label in session.scalars(query.group_by(Score.slice_of).order_by(func.min(Score.position))) if label
    ]


def current(session: Session, suite: str, checkpoints: Collection[int]) -> dict[int, int]:
    """The current evaluation of each checkpoint under a suite."""
    query = select(Evaluation.checkpoint_id, Evaluation.id)
    query = query.where(Evaluation.id.in_(standing(suite)), Evaluation.checkpoint_id.in_(checkpoints))
    return _pairs(session, query)


def seeds(session: Session, suite: str, checkpoints: Collection[int]) -> dict[int, int]:
    """Number of current evaluations, each with its own seed, of each checkpoint under a suite."""
    query = (
        select(Evaluation.checkpoint_id, func.count())
        .where(Evaluation.status == Status.SUCCEEDED, of_suite(suite), Evaluation.checkpoint_id.in_(checkpoints))
        .group_by(Evaluation.checkpoint_id)
    )
    return _pairs(session, query)


def runs_of(session: Session, suite: str, checkpoints: Collection[int]) -> dict[int, int]:
    """The checkpoint of each evaluation under a suite, including other seeds and superseded evaluations."""
    query = select(Evaluation.id, Evaluation.checkpoint_id)
    return _pairs(session, query.where(of_suite(suite), Evaluation.checkpoint_id.in_(checkpoints)))


def tags(session: Session) -> dict[int, list[str]]:
    """The aliases of each checkpoint, by id."""
    aliases: dict[int, list[str]] = {}
    for name, checkpoint in session.execute(select(Alias.name, Alias.checkpoint_id).order_by(Alias.name)):
        aliases.setdefault(checkpoint, []).append(name)
    return aliases


def artifacts(session: Session, evaluations: Iterable[int], kind: str) -> dict[int, str]:
    """The keys of one kind of file, by evaluation."""
    query = select(Artifact.evaluation_id, Artifact.path)
    query = query.where(Artifact.kind == kind, Artifact.evaluation_id.in_(list(evaluations)))
    return _pairs(session, query)


def reference_of(session: Session, evaluations: Sequence[int]) -> str | None:
    """The common digest of the real samples of several evaluations, or ``None`` if they differ."""
    query = select(Evaluation.spec["reference"]["train"].as_string()).where(Evaluation.id.in_(evaluations)).distinct()
    digests = list(session.scalars(query))
    return digests[0] if len(digests) == 1 else None


def speeds(session: Session, evaluations: Sequence[int]) -> dict[int, float]:
    """Samples per second during sampling, by evaluation, if measured."""
    query = select(Evaluation.id, Evaluation.provenance[SPEED.name].as_float())
    rows = session.execute(query.where(Evaluation.id.in_(evaluations)))
    return {evaluation: speed for evaluation, speed in rows if speed}


def score(session: Session, evaluation: int, label: str) -> Score | None:
    """One score of an evaluation with its details."""
    return session.scalar(select(Score).where(Score.evaluation_id == evaluation, Score.label == label))


def _pairs(session: Session, query: Select[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in session.execute(query)}  # noqa: C416  (rows are not pairs to mypy)


def _newest(wanted: Filter) -> Select[int]:
    """Ids of the current evaluations: succeeded, and the newest of several seeds of a checkpoint."""
    query = standing(wanted.suite)
    if wanted.models or wanted.families:
        query = query.join(Checkpoint, Evaluation.checkpoint_id == Checkpoint.id).join(Model)
    if wanted.models:
        query = query.where(Model.name.in_(wanted.models))
    if wanted.families:
        query = query.where(Model.family.in_(wanted.families))
    if wanted.aliases:
        named = select(Alias.checkpoint_id).where(Alias.name.in_(wanted.aliases))
        query = query.where(Evaluation.checkpoint_id.in_(named))
    if wanted.since is not None:
        query = query.where(Evaluation.finished_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(Evaluation.finished_at < wanted.until)
    return query


def _points(wanted: Filter | None) -> Select[*tuple[Any, ...]]:
    """The columns of a :class:`Point`."""
    columns = {**EVALUATION_VALUES, **SCORE_VALUES}
    query = (
        select(*(columns[each.name].label(each.name) for each in fields(Point) if each.name in columns))
        .join(Evaluation, Score.evaluation_id == Evaluation.id)
        .join(Checkpoint, Evaluation.checkpoint_id == Checkpoint.id)
        .join(Model, Checkpoint.model_id == Model.id)
    )
    return query if wanted is None else query.where(Evaluation.id.in_(_newest(wanted)))
