"""The life of an evaluation: found or begun, run shard by shard, recorded whole in one transaction."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from filelock import FileLock
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from evalsvc.digests import digest_path
from evalsvc.errors import EvalsvcError, InputError
from evalsvc.pipeline import Reduction, compute_shard, reduce
from evalsvc.provenance import environment
from evalsvc.spec import EvaluationSpec, Shard
from evalsvc.store import tables
from evalsvc.store.tables import Status, now
from evalsvc.suites import Suite
from evalsvc.workbench import Workbench
from metrics.score import MetricError


def evaluate(spec: EvaluationSpec, bench: Workbench, *, rerun: bool = False) -> int:
    """Score one checkpoint under one suite; the id of the evaluation.

    The same fingerprint again answers from the database, unless ``rerun``. A run that was stopped anywhere goes on
    where it stopped. A second process that asks for the same waits for the first, then answers from the database.
    """
    lock = bench.artifacts.path(f"locks/{spec.fingerprint}")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        evaluation, found = _find_or_begin(spec, bench, rerun)
        if found:
            return evaluation
        try:
            _run_shards(spec, bench, evaluation)
            started = time.perf_counter()
            reduction = reduce(spec, bench)
            seconds = time.perf_counter() - started
        except (EvalsvcError, MetricError) as error:
            _fail(bench, evaluation, str(error))
            raise
        _record(spec, bench, evaluation, reduction, seconds)
        return evaluation


def _find_or_begin(spec: EvaluationSpec, bench: Workbench, rerun: bool) -> tuple[int, bool]:
    """The evaluation to use, and whether its scores are there already."""
    with bench.database.write() as session:
        checkpoint = register_checkpoint(session, spec, bench)
        suite = _suite(session, spec.suite)
        same = select(tables.Evaluation.id).where(
            tables.Evaluation.checkpoint_id == checkpoint, tables.Evaluation.fingerprint == spec.fingerprint
        )
        current = session.scalar(same.where(tables.Evaluation.status == Status.SUCCEEDED))
        running = session.scalar(same.where(tables.Evaluation.status.in_([Status.QUEUED, Status.RUNNING])))
        if current and not rerun:
            return current, True
        if running:
            return running, False
        if rerun:
            for shard in spec.shards:
                bench.artifacts.remove(spec.shard_key(shard))
            bench.artifacts.remove(f"{spec.samples_key}/features-{spec.suite.samples}")
        row = tables.Evaluation(
            checkpoint_id=checkpoint,
            suite_id=suite,
            fingerprint=spec.fingerprint,
            status=Status.RUNNING,
            spec=spec.model_dump(mode="json"),
        )
        session.add(row)
        session.flush()
        return row.id, False


def _run_shards(spec: EvaluationSpec, bench: Workbench, evaluation: int) -> None:
    """Compute the shards that are missing, and note each."""
    totals: dict[str, int] = {}
    for shard in spec.shards:
        totals[shard.stage] = totals.get(shard.stage, 0) + shard.stop - shard.start
    advances = {stage: bench.progress(stage, total) for stage, total in totals.items()}
    for shard in spec.shards:
        seconds = compute_shard(spec, shard, bench, advances[shard.stage])
        _note_shard(spec, bench, evaluation, shard, seconds)


def _note_shard(spec: EvaluationSpec, bench: Workbench, evaluation: int, shard: Shard, seconds: float | None) -> None:
    same = select(tables.Shard).where(
        tables.Shard.evaluation_id == evaluation, tables.Shard.kind == shard.kind, tables.Shard.start == shard.start
    )
    with bench.database.write() as session:
        if session.scalar(same) is None:
            path = spec.shard_key(shard)
            session.add(tables.Shard(evaluation_id=evaluation, path=path, seconds=seconds, **shard.model_dump()))


def _record(spec: EvaluationSpec, bench: Workbench, evaluation: int, reduction: Reduction, seconds: float) -> None:
    artifacts = []
    for kind, key in reduction.files.items():
        path = bench.artifacts.path(key)
        size = path.stat().st_size
        artifacts.append(tables.Artifact(kind=kind, path=key, digest=digest_path(path), bytes=size))
    with bench.database.write() as session:
        row = session.get_one(tables.Evaluation, evaluation, with_for_update={"of": tables.Evaluation})
        if row.status != Status.RUNNING:  # another machine was faster
            return
        session.execute(
            update(tables.Evaluation)
            .where(
                tables.Evaluation.checkpoint_id == row.checkpoint_id,
                tables.Evaluation.fingerprint == row.fingerprint,
                tables.Evaluation.status == Status.SUCCEEDED,
            )
            .values(status=Status.SUPERSEDED)
        )
        for position, labelled in enumerate(reduction.scores):
            score = labelled.score
            session.merge(tables.Protocol(id=labelled.protocol, facts=dict(labelled.facts)))
            row.scores.append(
                tables.Score(
                    position=position,
                    label=labelled.label,
                    quantity=score.name,
                    value=score.value,
                    stderr=score.stderr,
                    ci_low=score.ci_low,
                    ci_high=score.ci_high,
                    n=score.n,
                    direction=score.direction,
                    unit=score.unit,
                    stderr_method=score.stderr_method,
                    details=dict(score.details),
                    protocol_id=labelled.protocol,
                )
            )
        row.artifacts.extend(artifacts)
        row.provenance = _provenance(spec, bench, reduction, seconds, row.shards)
        row.status, row.finished_at, row.error = Status.SUCCEEDED, now(), None


def _provenance(
    spec: EvaluationSpec, bench: Workbench, reduction: Reduction, metrics_seconds: float, shards: list[tables.Shard]
) -> dict[str, Any]:
    """Durations are of the shards as they were computed, whichever run did it."""
    timed = [
        (shard.kind.partition("-")[0], shard.stop - shard.start, shard.seconds) for shard in shards if shard.seconds
    ]
    seconds = {stage: sum(s for of, _, s in timed if of == stage) for stage in ("samples", "likelihood")}
    drawn = sum(count for stage, count, _ in timed if stage == "samples")
    return environment(bench.device) | {
        "seed": spec.seed,
        "batch_size": bench.batch_size,
        "seconds": seconds | {"metrics": metrics_seconds},
        "samples_per_second": drawn / seconds["samples"] if drawn else None,
        "not_applicable": dict(reduction.not_applicable),
    }


def _fail(bench: Workbench, evaluation: int, reason: str) -> None:
    # The disk that refused a shard may refuse this row too; the caller raises the reason either way.
    with suppress(OperationalError), bench.database.write() as session:
        row = session.get_one(tables.Evaluation, evaluation)
        row.status, row.error, row.finished_at = Status.FAILED, reason, now()


def register_checkpoint(session: Session, spec: EvaluationSpec, bench: Workbench) -> int:
    """The id of the spec's checkpoint, its model and itself added where they are new."""
    model = session.scalar(select(tables.Model).where(tables.Model.name == spec.model))
    if model is None:
        model = tables.Model(name=spec.model, family=bench.generator_of(spec).info.family)
        session.add(model)
        session.flush()
    same = select(tables.Checkpoint).where(
        tables.Checkpoint.model_id == model.id,
        tables.Checkpoint.step == spec.step,
        tables.Checkpoint.digest == spec.checkpoint,
    )
    row = session.scalar(same)
    if row is None:
        row = tables.Checkpoint(
            model_id=model.id,
            step=spec.step,
            digest=spec.checkpoint,
            path=spec.path,
            generator=spec.generator,
            options=spec.options,
        )
        session.add(row)
        session.flush()
    return row.id


def _suite(session: Session, suite: Suite) -> int:
    """The id of the suite; a name and version that meant something else before is an error."""
    same = select(tables.Suite).where(tables.Suite.name == suite.name, tables.Suite.version == suite.version)
    row = session.scalar(same)
    if row is None:
        body = suite.model_dump(mode="json")
        row = tables.Suite(name=suite.name, version=suite.version, digest=suite.digest, body=body)
        session.add(row)
        session.flush()
    elif row.digest != suite.digest:
        raise InputError(
            f"suite {suite.id} has changed since it was first used, and scores would no longer mean the same: "
            f"raise its version to {suite.version + 1}"
        )
    return row.id
