"""How far evaluations are, and who works on them. Reads rows alone, so that looking is cheap and imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session, lazyload, load_only

from evalsvc.evaluation.shards import stage_of
from evalsvc.store import names
from evalsvc.store.tables import (
    IN_PROGRESS,
    WORKING,
    Checkpoint,
    Evaluation,
    Failure,
    Model,
    Shard,
    Status,
    Suite,
    Worker,
    WorkerStatus,
)

SHOWN = (
    Evaluation.status,
    Evaluation.failure,
    Evaluation.error,
    Evaluation.attempt,
    Evaluation.priority,
    Evaluation.by,
    Evaluation.requested_at,
    Evaluation.started_at,
    Evaluation.finished_at,
    Evaluation.work,
)
LABEL = Checkpoint.id, Checkpoint.step, Checkpoint.digest, Checkpoint.configuration


@dataclass(frozen=True)
class Progress:
    """One evaluation as it is now; ``stages`` are (done, due) samples or items, unfinished shards included."""

    id: int
    model: str
    step: int
    checkpoint_id: int
    digest: str
    configuration: str
    mark: str
    suite: str
    status: Status
    failure: Failure | None
    error: str | None
    attempt: int
    priority: int
    by: str
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    stages: Mapping[str, tuple[int, int]]

    @property
    def name(self) -> str:
        """``model@step``, and what tells it from others of that label."""
        return f"{self.model}@{self.step}{self.mark}"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it, unless it is tried again."""
        return self.status not in IN_PROGRESS

    @property
    def fraction(self) -> float:
        """Share of the samples and items that are done, from 0 to 1."""
        due = sum(total for _, total in self.stages.values())
        return sum(done for done, _ in self.stages.values()) / due if due else 0.0


def progress(
    session: Session,
    evaluations: Collection[int] | None = None,
    statuses: Collection[Status] | None = None,
    before: int | None = None,
    limit: int | None = None,
) -> list[Progress]:
    """The newest first; only these ids, only these statuses, only those with an id below ``before``."""
    # Chosen from an index first: rows are long, and those of a page few.
    chosen = select(Evaluation.id).order_by(Evaluation.id.desc()).limit(limit)
    if evaluations is not None:
        chosen = chosen.where(Evaluation.id.in_(evaluations))
    if statuses is not None:
        chosen = chosen.where(Evaluation.status.in_(statuses))
    if before is not None:
        chosen = chosen.where(Evaluation.id < before)
    query = (
        select(Evaluation, *LABEL, Model.name, Suite.name, Suite.version)
        # Neither the spec nor the suite, which are long, and read again and again while somebody watches.
        .options(load_only(*SHOWN), lazyload(Evaluation.checkpoint), lazyload(Evaluation.suite))
        .join(Checkpoint, Evaluation.checkpoint_id == Checkpoint.id)
        .join(Model, Checkpoint.model_id == Model.id)
        .join(Suite, Evaluation.suite_id == Suite.id)
        .where(Evaluation.id.in_(chosen))
        .order_by(Evaluation.id.desc())
    )
    rows = session.execute(query).all()
    done = _done(session, [row[0].id for row in rows])
    marks = names.marks(session, {row[1] for row in rows})
    return [
        Progress(
            id=run.id,
            model=model,
            step=step,
            checkpoint_id=checkpoint,
            digest=digest,
            configuration=configuration,
            mark=marks.get(checkpoint, ""),
            suite=f"{suite}@{version}",
            status=Status(run.status),
            failure=Failure(run.failure) if run.failure else None,
            error=run.error,
            attempt=run.attempt,
            priority=run.priority,
            by=run.by,
            requested_at=run.requested_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
            stages=_stages(run, done),
        )
        for run, checkpoint, step, digest, configuration, model, suite, version in rows
    ]


def failure_details(session: Session, evaluations: Collection[int]) -> dict[int, str]:
    """What operators read beside the errors of these evaluations: no client is shown it."""
    query = select(Evaluation.id, Evaluation.detail).where(
        Evaluation.id.in_(evaluations), Evaluation.detail.is_not(None)
    )
    return {evaluation: str(detail) for evaluation, detail in session.execute(query)}


def _stages(run: Evaluation, done: Mapping[tuple[int, str], int]) -> dict[str, tuple[int, int]]:
    due: Counter[str] = Counter()
    for kind, total in run.work.items():
        due[stage_of(kind)] += total
    return {stage: (min(done[run.id, stage], total), total) for stage, total in due.items()}


def _done(session: Session, evaluations: list[int]) -> Counter[tuple[int, str]]:
    """Samples and items by evaluation and stage: finished shards, and what workers say of theirs."""
    finished = (
        select(Shard.evaluation_id, Shard.kind, func.sum(Shard.stop - Shard.start))
        .where(Shard.evaluation_id.in_(evaluations))
        .group_by(Shard.evaluation_id, Shard.kind)
    )
    at_work = select(Worker.evaluation_id, Worker.stage, Worker.done).where(
        Worker.evaluation_id.in_(evaluations), Worker.status.in_(WORKING)
    )
    found: Counter[tuple[int, str]] = Counter()
    for evaluation, kind, count in [*session.execute(finished), *session.execute(at_work)]:
        found[int(evaluation or 0), stage_of(str(kind))] += int(count)
    return found


def workers(session: Session, statuses: Collection[WorkerStatus] = WORKING) -> list[Worker]:
    """Worker processes with these statuses, by host and device."""
    query = select(Worker).where(Worker.status.in_(statuses))
    return list(session.scalars(query.order_by(Worker.host, Worker.role, Worker.device, Worker.id)))
