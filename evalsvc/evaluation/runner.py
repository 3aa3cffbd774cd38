"""Execution of one evaluation without a queue, in this process and its helpers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Event

from sqlalchemy.exc import OperationalError

from evalsvc.core.cost import Cost
from evalsvc.core.errors import EvalsvcError, StorageError, WithdrawnError, detail_of
from evalsvc.core.observability import tracing
from evalsvc.core.side_by_side import side_by_side
from evalsvc.evaluation import attempts, failures, lifecycle
from evalsvc.evaluation.attempts import Attempt
from evalsvc.evaluation.context import Advance, EvaluationContext
from evalsvc.evaluation.missing_shards import missing_shards
from evalsvc.evaluation.recording import describe, record
from evalsvc.evaluation.scoring import Reduction, reduce
from evalsvc.evaluation.shard_computation import ShardContent, shard_content, write_shard
from evalsvc.evaluation.shard_process import ShardProcess
from evalsvc.evaluation.shard_reading import repaired
from evalsvc.evaluation.shards import Shard, stage_of
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.metrics.score import MetricError
from evalsvc.store import tables
from evalsvc.store.tables import Status


def evaluate(spec: EvaluationSpec, context: EvaluationContext, *, rerun: bool = False) -> int:
    """Score one checkpoint under one suite; return the id of the evaluation.

    The same fingerprint returns the stored evaluation, unless ``rerun``. An interrupted run resumes where it stopped. A
    second process that requests the same evaluation waits for the first.
    """
    with context.artifacts.lock(f"locks/{spec.fingerprint}"):
        submission = lifecycle.submit(context.database, spec, on_queue=False, rerun=rerun)
        if submission.status == Status.SUCCEEDED:
            return submission.id
        attempt = Attempt(submission.id, submission.attempt)
        attempts.start(context.database, attempt)
        try:
            with tracing.span("evaluation", evaluation=submission.id, attempt=submission.attempt):
                _run_shards(spec, context, attempt, rerun=submission.rerun)
                measure(spec, context, attempt, rerun=submission.rerun)
        except WithdrawnError:
            # A worker with the same evaluation on its queue may have been faster.
            with context.database.read() as session:
                if session.get_one(tables.Evaluation, submission.id).status != Status.SUCCEEDED:
                    raise
        except (EvalsvcError, MetricError) as error:
            # The disk that refused a shard may refuse this row too; the reason is raised in both cases.
            with suppress(OperationalError, StorageError):
                attempts.fail(context.database, attempt, failures.failure_of(error), str(error), detail_of(error))
            raise
        return submission.id


def record_shard(
    spec: EvaluationSpec, context: EvaluationContext, attempt: Attempt, shard: Shard, cost: Cost | None
) -> None:
    """Record that a shard is on disk.

    Raises:
        WithdrawnError: the attempt was superseded.
    """
    path = spec.shard_key(shard)
    attempts.record_shard(context.database, attempt, path=path, cost=cost, **shard.model_dump())


def measure(spec: EvaluationSpec, context: EvaluationContext, attempt: Attempt, *, rerun: bool) -> None:
    """Reduce the shards, which are all on disk, and record the scores; on a ``rerun`` they are joined again.

    Raises:
        WithdrawnError: the attempt was superseded and its scores differ from the stored ones.
    """
    meter = context.meter()
    if rerun:
        context.artifacts.remove(spec.features_key)

    def reduced() -> tuple[Reduction, list[tables.Artifact]]:
        reduction = reduce(spec, context)
        return reduction, describe(reduction.files, context.artifacts)

    reduction, artifacts = repaired(reduced)
    record(spec, context, attempt, reduction, artifacts, meter.cost())


def _run_shards(spec: EvaluationSpec, context: EvaluationContext, attempt: Attempt, *, rerun: bool) -> None:
    """Compute missing shards, or on a ``rerun`` those that this evaluation has not computed yet, and record each.

    This process and its helpers take one shard after the other.
    """
    missing = frozenset(missing_shards(context.database, attempt) if rerun else ())
    totals: Counter[str] = Counter()
    for kind, total in spec.work.items():
        totals[stage_of(kind)] += total
    advances = {stage: context.progress(stage, total) for stage, total in totals.items()}
    todo, halted = deque(spec.shards), Event()

    def watched(advance: Advance) -> Advance:
        def step(done: int) -> None:
            advance(done)
            attempts.check(context.database, attempt)
            if halted.is_set():
                raise WithdrawnError(f"evaluation {attempt.evaluation} was stopped")

        return step

    def keep(shard: Shard, content: ShardContent | None) -> None:
        record_shard(spec, context, attempt, shard, None if content is None else write_shard(context, content))

    def here() -> None:
        with ThreadPoolExecutor(1, "shards") as disk:  # writing a shard overlaps with computing the next one
            kept: Future[None] | None = None
            for shard in _taken(todo):
                content = shard_content(spec, shard, context, watched(advances[shard.stage]), rerun=shard in missing)
                if kept:
                    kept.result()
                kept = disk.submit(keep, shard, content)
            if kept:
                kept.result()

    def there(helper: ShardProcess) -> None:
        for shard in _taken(todo):
            cost = helper.compute(spec, shard, watched(advances[shard.stage]), rerun=shard in missing)
            record_shard(spec, context, attempt, shard, cost)

    def halt() -> None:
        halted.set()
        todo.clear()
        for helper in context.helpers:
            helper.end()

    side_by_side(here, [partial(there, helper) for helper in context.helpers], halt)


def _taken(todo: deque[Shard]) -> Iterator[Shard]:
    """Shards that no other thread takes."""
    with suppress(IndexError):
        while True:
            yield todo.popleft()
