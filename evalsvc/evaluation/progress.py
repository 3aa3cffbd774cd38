"""Progress of evaluations and workers. Reads rows only, which is cheap and does not import torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import String, cast, func, select
from sqlalchemy.orm import Session, lazyload, load_only

from evalsvc.core.columns import Progress as Progress
from evalsvc.core.columns import Stage
from evalsvc.evaluation.shards import stage_of
from evalsvc.store import names
from evalsvc.store.tables import (
    IN_PROGRESS,
    WORKING,
    Checkpoint,
    Evaluation,
    Model,
    Shard,
    Status,
    Suite,
    Worker,
    WorkerStatus,
)

LABEL: Mapping[str, Any] = {
    "model": Model.name,
    "step": Checkpoint.step,
    "digest": Checkpoint.digest,
    "configuration": Checkpoint.configuration,
    "suite": Suite.name + "@" + cast(Suite.version, String),
}
"""Columns of the progress that come from other tables."""
COMPUTED = {"mark", "stages", "fraction", "ended"}
OWN = {each.name: getattr(Evaluation, each.name) for each in fields(Progress) if each.name not in {*LABEL, *COMPUTED}}
"""Columns of the progress that come from the evaluation's own row, under the same names."""


def progress(
    session: Session,
    evaluations: Collection[int] | None = None,
    statuses: Collection[Status] | None = None,
    before: int | None = None,
    limit: int | None = None,
) -> list[Progress]:
    """Progress of evaluations, newest first, filtered by ids, statuses, and ids below ``before``."""
    # Selected from an index first: rows are long, and a page has few.
    chosen = select(Evaluation.id).order_by(Evaluation.id.desc()).limit(limit)
    if evaluations is not None:
        chosen = chosen.where(Evaluation.id.in_(evaluations))
    if statuses is not None:
        chosen = chosen.where(Evaluation.status.in_(statuses))
    if before is not None:
        chosen = chosen.where(Evaluation.id < before)
    query = (
        select(Evaluation, *LABEL.values())
        # Without the spec and the suite, which are long and would be read on every refresh.
        .options(load_only(*OWN.values(), Evaluation.work), lazyload(Evaluation.checkpoint), lazyload(Evaluation.suite))
        .join(Checkpoint, Evaluation.checkpoint_id == Checkpoint.id)
        .join(Model, Checkpoint.model_id == Model.id)
        .join(Suite, Evaluation.suite_id == Suite.id)
        .where(Evaluation.id.in_(chosen))
        .order_by(Evaluation.id.desc())
    )
    rows = session.execute(query).all()
    done = _done(session, [row[0].id for row in rows])
    marks = names.marks(session, {row[0].checkpoint_id for row in rows})
    return [
        _progress(run, done, dict(zip(LABEL, of, strict=True)), marks.get(run.checkpoint_id, "")) for run, *of in rows
    ]


def failure_details(session: Session, evaluations: Collection[int]) -> dict[int, str]:
    """Error details of these evaluations for operators; not shown to clients."""
    query = select(Evaluation.id, Evaluation.detail).where(
        Evaluation.id.in_(evaluations), Evaluation.detail.is_not(None)
    )
    return {evaluation: str(detail) for evaluation, detail in session.execute(query)}


def _progress(run: Evaluation, done: Mapping[tuple[int, str], int], label: Mapping[str, Any], mark: str) -> Progress:
    stages = _stages(run, done)
    due = sum(stage.due for stage in stages.values())
    return Progress(
        **{name: getattr(run, name) for name in OWN},
        **label,
        mark=mark,
        stages=stages,
        fraction=sum(stage.done for stage in stages.values()) / due if due else 0.0,
        ended=run.status not in IN_PROGRESS,
    )


def _stages(run: Evaluation, done: Mapping[tuple[int, str], int]) -> dict[str, Stage]:
    due: Counter[str] = Counter()
    for kind, total in run.work.items():
        due[stage_of(kind)] += total
    return {stage: Stage(min(done[run.id, stage], total), total) for stage, total in due.items()}


def _done(session: Session, evaluations: list[int]) -> Counter[tuple[int, str]]:
    """Numbers of samples and items by evaluation and stage: completed shards, and those that workers report."""
    finished = (
        select(Shard.evaluation_id, Shard.kind, func.sum(Shard.stop - Shard.start))
        .where(Shard.evaluation_id.in_(evaluations))
        .group_by(Shard.evaluation_id, Shard.kind)
    )
    at_work = select(Worker.evaluation_id, Worker.stage, Worker.done).where(
        Worker.evaluation_id.in_(evaluations), Worker.status.in_(WORKING)
    )
    counts: Counter[tuple[int, str]] = Counter()
    for evaluation, kind, count in [*session.execute(finished), *session.execute(at_work)]:
        counts[int(evaluation or 0), stage_of(str(kind))] += int(count)
    return counts


def workers(session: Session, statuses: Collection[WorkerStatus] = WORKING) -> list[Worker]:
    """Worker processes with these statuses, by host and device."""
    query = select(Worker).where(Worker.status.in_(statuses))
    return list(session.scalars(query.order_by(Worker.host, Worker.role, Worker.device, Worker.id)))
