"""The result of an evaluation in the database: scores, artifacts, cost and provenance, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from evalsvc.core.cost import SPEED, Cost
from evalsvc.core.digests import digest_path
from evalsvc.core.errors import WithdrawnError
from evalsvc.core.provenance import environment
from evalsvc.evaluation import attempts, opening, quotas
from evalsvc.evaluation.attempts import Attempt
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.labelled_scores import LabelledScore
from evalsvc.evaluation.right_values import NO_RIGHT_VALUE
from evalsvc.evaluation.scoring import Reduction
from evalsvc.evaluation.shards import stage_of
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.metrics.score import Score
from evalsvc.plugins.interfaces import Skips
from evalsvc.store import outbox, tables
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.names import FEW
from evalsvc.store.session import clock
from evalsvc.store.tables import Status

SHOWN = 20
"""Maximum number of files listed in the provenance of an evaluation that skipped some."""


def record(
    spec: EvaluationSpec,
    context: EvaluationContext,
    attempt: Attempt,
    reduction: Reduction,
    artifacts: Sequence[tables.Artifact],
    cost: Cost,
) -> None:
    """Store the scores of an attempt with their artifacts, cost and provenance; earlier evaluations are superseded.

    Raises:
        WithdrawnError: the attempt is no longer wanted, and the stored scores differ.
    """
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
        _add_protocols(session, {each.protocol: dict(each.facts) for each in reduction.scores})
        row.scores.extend(_row(labelled, position) for position, labelled in enumerate(reduction.scores))
        row.artifacts.extend(artifacts)
        row.charge(cost)
        quotas.charge(session, row.token, cost.seconds)
        row.provenance = _provenance(spec, context, reduction, cost.seconds, row.shards)
        row.status, row.finished_at = Status.SUCCEEDED, clock(session)
        outbox.evaluation_ended(session, row)
    attempts.log_change(row)


def _add_protocols(session: Session, facts: Mapping[str, dict[str, Any]]) -> None:
    """Add the protocols that are missing; another transaction may add the same."""
    ids = sorted(facts)  # in a fixed order, so that two such transactions cannot deadlock
    known = set[str]()
    for start in range(0, len(ids), FEW):
        known |= set(
            session.scalars(select(tables.Protocol.id).where(tables.Protocol.id.in_(ids[start : start + FEW])))
        )
    missing = [{"id": id_, "facts": facts[id_]} for id_ in ids if id_ not in known]
    try:
        with session.begin_nested():
            if missing:
                session.execute(insert(tables.Protocol), missing)
    except IntegrityError:  # some were added in the meantime
        for each in missing:
            with suppress(IntegrityError), session.begin_nested():
                session.merge(tables.Protocol(**each))


_FOUND = {each.name for each in fields(Score)} & set(tables.Score.__table__.columns.keys())
"""Columns of a score's row that come from its metric."""


def _row(labelled: LabelledScore, position: int) -> tables.Score:
    score = labelled.score
    columns = {name: getattr(score, name) for name in _FOUND}
    units = {"independent": labelled.independent, "independent_unit": labelled.units.unit, **labelled.notes}
    return tables.Score(
        **columns | {"details": {**score.details, **units}},
        position=position,
        label=labelled.label,
        quantity=score.name,
        protocol_id=labelled.protocol,
        slice_of=labelled.slice_of,
    )


def describe(files: Mapping[str, str], artifacts: Artifacts) -> list[tables.Artifact]:
    """Rows of files, given their keys by kind."""
    rows = []
    for kind, key in files.items():
        path = artifacts.checked(key)
        rows.append(tables.Artifact(kind=kind, path=key, digest=digest_path(path), bytes=path.stat().st_size))
    return rows


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
    return environment(context.device, context.device_name, shared=context.card.processes > 1) | {
        "seed": spec.seed,
        "weights": spec.weights,
        "samples": _taken(spec),
        "batch_size": context.batches.size,
        "seconds": seconds | {"metrics": metrics_seconds},
        SPEED.name: drawn / seconds["samples"] if drawn and spec.draws else None,
        "backends": {
            label: opening.extractor(context, use).info.backend for label, use in spec.suite.extractors.items()
        },
        "not_applicable": dict(reduction.not_applicable),
        "skipped": _skipped(spec, context),
        **({"no_right_value": without} if (without := _without_right_value(reduction)) else {}),
        **({"outcomes": dict(reduction.outcomes)} if reduction.outcomes else {}),
    }


def _without_right_value(reduction: Reduction) -> dict[str, str]:
    """Scores that should be held against the reference's own value and have none, with the reason."""
    return {each.label: each.notes[NO_RIGHT_VALUE] for each in reduction.scores if NO_RIGHT_VALUE in each.notes}


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
