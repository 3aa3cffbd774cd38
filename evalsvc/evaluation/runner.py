"""Execution of one evaluation in one process, and the recording of results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields
from typing import Any

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError, OperationalError

from evalsvc.core.cost import SPEED, Cost, Meter
from evalsvc.core.digests import digest_path
from evalsvc.core.errors import EvalsvcError, StorageError, WithdrawnError, detail_of
from evalsvc.core.observability import tracing
from evalsvc.core.provenance import environment
from evalsvc.evaluation import attempts, failures, lifecycle, opening, quotas
from evalsvc.evaluation.attempts import Attempt
from evalsvc.evaluation.context import Advance, EvaluationContext
from evalsvc.evaluation.missing_shards import missing_shards
from evalsvc.evaluation.scoring import LabelledScore, Reduction, reduce
from evalsvc.evaluation.shard_computation import ShardContent, shard_content, write_shard
from evalsvc.evaluation.shard_reading import repaired
from evalsvc.evaluation.shards import Shard, stage_of
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.metrics.score import MetricError, Score
from evalsvc.plugins.interfaces import Skips
from evalsvc.store import outbox, tables
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.session import clock
from evalsvc.store.tables import Status

SHOWN = 20
"""Maximum number of files listed in the provenance of an evaluation that skipped some."""


def evaluate(spec: EvaluationSpec, context: EvaluationContext, *, rerun: bool = False) -> int:
    """Score one checkpoint under one suite; return the id of the evaluation.

    The same fingerprint returns the stored evaluation, unless ``rerun``. An interrupted run resumes where it stopped. A
    second process that requests the same evaluation waits for the first.
    """
    with context.artifacts.lock(f"locks/{spec.fingerprint}"):
        found = lifecycle.submit(context.database, spec, on_queue=False, rerun=rerun)
        if found.status == Status.SUCCEEDED:
            return found.id
        attempt = Attempt(found.id, found.attempt)
        attempts.start(context.database, attempt)
        try:
            with tracing.span("evaluation", evaluation=found.id, attempt=found.attempt):
                _run_shards(spec, context, attempt, fresh=found.fresh)
                measure(spec, context, attempt, fresh=found.fresh)
        except WithdrawnError:
            # A worker with the same evaluation on its queue may have been faster.
            with context.database.read() as session:
                if session.get_one(tables.Evaluation, found.id).status != Status.SUCCEEDED:
                    raise
        except (EvalsvcError, MetricError) as error:
            # The disk that refused a shard may refuse this row too; the reason is raised in both cases.
            with suppress(OperationalError, StorageError):
                attempts.fail(context.database, attempt, failures.failure_of(error), str(error), detail_of(error))
            raise
        return found.id


def record_shard(
    spec: EvaluationSpec, context: EvaluationContext, attempt: Attempt, shard: Shard, cost: Cost | None
) -> None:
    """Record that a shard is on disk.

    Raises:
        WithdrawnError: the attempt was superseded.
    """
    path = spec.shard_key(shard)
    attempts.record_shard(context.database, attempt, path=path, cost=cost, **shard.model_dump())


def measure(spec: EvaluationSpec, context: EvaluationContext, attempt: Attempt, *, fresh: bool) -> None:
    """Reduce the shards, which are all on disk, and record the scores; a ``fresh`` evaluation joins them again.

    Raises:
        WithdrawnError: the attempt was superseded and its scores differ from the stored ones.
    """
    meter = Meter(context.device)
    if fresh:
        context.artifacts.remove(spec.features_key)

    def reduced() -> tuple[Reduction, list[tables.Artifact]]:
        reduction = reduce(spec, context)
        return reduction, describe(reduction.files, context.artifacts)

    reduction, artifacts = repaired(reduced)
    _record(spec, context, attempt, reduction, artifacts, meter.cost())


def _run_shards(spec: EvaluationSpec, context: EvaluationContext, attempt: Attempt, *, fresh: bool) -> None:
    """Compute missing shards, or if ``fresh`` those that this evaluation has not computed yet, and record each."""
    anew = frozenset(missing_shards(context.database, attempt) if fresh else ())
    totals: Counter[str] = Counter()
    for kind, total in spec.work.items():
        totals[stage_of(kind)] += total
    advances = {stage: context.progress(stage, total) for stage, total in totals.items()}

    def watched(advance: Advance) -> Advance:
        def step(done: int) -> None:
            advance(done)
            attempts.check(context.database, attempt)

        return step

    def keep(shard: Shard, content: ShardContent | None) -> None:
        record_shard(
            spec, context, attempt, shard, None if content is None else write_shard(spec, shard, context, content)
        )

    with ThreadPoolExecutor(1, "shards") as disk:  # writing a shard overlaps with computing the next one
        kept: Future[None] | None = None
        for shard in spec.shards:
            content = shard_content(spec, shard, context, watched(advances[shard.stage]), anew=shard in anew)
            if kept:
                kept.result()
            kept = disk.submit(keep, shard, content)
        if kept:
            kept.result()


def _record(
    spec: EvaluationSpec,
    context: EvaluationContext,
    attempt: Attempt,
    reduction: Reduction,
    artifacts: Sequence[tables.Artifact],
    cost: Cost,
) -> None:
    with context.database.write() as session:
        try:
            row = attempts.lock_attempt(session, attempt)
        except WithdrawnError:
            # Another process was faster, or this worker was given up and returned: the stored scores must equal these.
            if _same(session.get_one(tables.Evaluation, attempt.evaluation), reduction.scores):
                return
            raise
        session.execute(
            update(tables.Evaluation)
            .where(
                tables.Evaluation.checkpoint_id == row.checkpoint_id,
                tables.Evaluation.fingerprint == row.fingerprint,
                tables.Evaluation.status == Status.SUCCEEDED,
            )
            .values(status=Status.SUPERSEDED)
        )
        # In a fixed order, so that two transactions that add the same protocols cannot deadlock.
        for labelled in sorted(reduction.scores, key=lambda each: each.protocol):
            with suppress(IntegrityError), session.begin_nested():
                session.merge(tables.Protocol(id=labelled.protocol, facts=dict(labelled.facts)))
        row.scores.extend(_row(labelled, position) for position, labelled in enumerate(reduction.scores))
        row.artifacts.extend(artifacts)
        row.charge(cost)
        quotas.charge(session, row.token, cost.seconds)
        row.provenance = _provenance(spec, context, reduction, cost.seconds, row.shards)
        row.status, row.finished_at = Status.SUCCEEDED, clock(session)
        outbox.evaluation_ended(session, row)
    attempts.log_change(row)


_FOUND = {each.name for each in fields(Score)} & set(tables.Score.__table__.columns.keys())
"""Columns of a score's row that come from its metric."""


def _row(labelled: LabelledScore, position: int) -> tables.Score:
    score = labelled.score
    found = {name: getattr(score, name) for name in _FOUND}
    units = {"independent": labelled.independent, "independent_unit": labelled.units.unit}
    return tables.Score(
        **found | {"details": {**score.details, **units}},
        position=position,
        label=labelled.label,
        quantity=score.name,
        protocol_id=labelled.protocol,
    )


def describe(files: Mapping[str, str], artifacts: Artifacts) -> list[tables.Artifact]:
    """Rows of files, given their keys by kind."""
    found = []
    for kind, key in files.items():
        path = artifacts.checked(key)
        found.append(tables.Artifact(kind=kind, path=key, digest=digest_path(path), bytes=path.stat().st_size))
    return found


def _same(row: tables.Evaluation, scores: tuple[LabelledScore, ...]) -> bool:
    """Whether an evaluation has succeeded with exactly these scores."""
    there = [(score.label, score.value, score.protocol_id) for score in row.scores]
    brought = [(each.label, each.score.value, each.protocol) for each in scores]
    return row.status == Status.SUCCEEDED and there == brought


def _provenance(
    spec: EvaluationSpec,
    context: EvaluationContext,
    reduction: Reduction,
    metrics_seconds: float,
    shards: list[tables.Shard],
) -> dict[str, Any]:
    """Provenance of an evaluation. Durations are those of the computation of the shards, in any run."""
    timed = [(stage_of(shard.kind), shard.stop - shard.start, shard.seconds) for shard in shards if shard.seconds]
    seconds = {stage: sum(s for of, _, s in timed if of == stage) for stage in ("samples", "likelihood")}
    drawn = sum(count for stage, count, _ in timed if stage == "samples")
    return environment(context.device) | {
        "seed": spec.seed,
        "weights": spec.weights,
        "samples": _taken(spec),
        "batch_size": context.batches.size,
        "seconds": seconds | {"metrics": metrics_seconds},
        SPEED.name: drawn / seconds["samples"] if drawn else None,
        "backends": {
            label: opening.extractor(context, use).info.backend for label, use in spec.suite.extractors.items()
        },
        "not_applicable": dict(reduction.not_applicable),
        "skipped": _skipped(spec, context),
    }


def _taken(spec: EvaluationSpec) -> dict[str, int]:
    """Number of samples, and for a source the number of its items and their order."""
    if spec.order is None:
        return {"taken": spec.suite.samples}
    return {"taken": spec.suite.samples, "of": spec.order.of, "order": spec.order.version}


def _skipped(spec: EvaluationSpec, context: EvaluationContext) -> dict[str, Any]:
    """Number of skipped unreadable files in the samples and in each split, and the first names."""
    skipped: dict[str, Sequence[str]] = {"samples": spec.options.get("skip", ())}
    if spec.suite.reference:
        reference = opening.reference(context, spec.suite.reference)
        for split in spec.reference:
            samples = reference.split(split)
            skipped[f"reference {split}"] = samples.skipped if isinstance(samples, Skips) else ()
    return {place: {"count": len(names), "first": list(names[:SHOWN])} for place, names in skipped.items() if names}
