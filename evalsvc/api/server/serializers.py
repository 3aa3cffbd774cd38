"""Convert rows to API documents."""

from __future__ import annotations

from collections.abc import Mapping

from evalsvc.analysis.leaderboard import Difference
from evalsvc.api import schemas
from evalsvc.core.columns import Progress, ScoreColumns
from evalsvc.gates.reports import text
from evalsvc.store import tables
from evalsvc.store.queries import ScoreRow


def model(row: tables.Model, checkpoints: int, last_step: int | None, evaluations: int) -> schemas.Model:
    """A model."""
    return schemas.Model(
        name=row.name,
        family=row.family,
        checkpoints=checkpoints,
        last_step=last_step,
        evaluations=evaluations,
        created_at=row.created_at,
    )


def checkpoint(row: tables.Checkpoint, marks: Mapping[int, str]) -> schemas.Checkpoint:
    """A checkpoint; ``marks`` distinguish checkpoints with the same label."""
    return schemas.Checkpoint(
        id=row.id,
        model=row.model.name,
        step=row.step,
        digest=row.digest,
        path=row.path,
        generator=row.generator,
        generator_version=row.generator_version,
        options=row.options,
        configuration=row.configuration,
        mark=marks.get(row.id, ""),
        created_at=row.created_at,
    )


def alias(row: tables.Alias, marks: Mapping[int, str], pinned: Mapping[str, str]) -> schemas.Alias:
    """An alias, with the digests of protecting policies."""
    return schemas.Alias(
        name=row.name,
        checkpoint=checkpoint(row.checkpoint, marks),
        protected_by=pinned.get(row.name),
        updated_at=row.updated_at,
    )


def promotion(row: tables.Promotion, marks: Mapping[int, str]) -> schemas.Promotion:
    """A move of an alias."""
    return schemas.Promotion(
        id=row.id,
        alias=row.alias,
        checkpoint=checkpoint(row.checkpoint, marks),
        gate=row.gate_id,
        kind=row.kind,
        by=row.by,
        reason=row.reason,
        created_at=row.created_at,
    )


def score(row: ScoreColumns) -> schemas.Score:
    """A score."""
    return schemas.Score.model_validate(row)


def evaluation(found: Progress) -> schemas.Evaluation:
    """An evaluation as it is now."""
    return schemas.Evaluation.model_validate(found)


def evaluation_detail(found: Progress, row: tables.Evaluation, scores: list[ScoreRow]) -> schemas.EvaluationDetail:
    """An evaluation with all its details."""
    seed = row.spec.get("seed")
    return schemas.EvaluationDetail.model_validate(
        vars(found)
        | {
            "fingerprint": row.fingerprint,
            "seed": seed,
            "scores": [score(each) for each in scores],
            "artifacts": [schemas.Artifact.model_validate(each) for each in row.artifacts],
            "provenance": row.provenance,
            "device_seconds": row.device_seconds,
            "peak_memory": row.peak_memory,
            "energy": row.energy,
        }
    )


def difference(found: Difference) -> schemas.Difference:
    """A difference."""
    return schemas.Difference(
        label=found.label,
        a=score(found.a) if found.a else None,
        b=score(found.b) if found.b else None,
        difference=found.value,
        stderr=found.stderr,
        interval=found.interval,
        paired=found.paired,
        unpaired=found.unpaired or None,
        independent=found.independent,
        verdict=found.on_this_reference,
        reason=found.reason or None,
        stderr_reference=found.stderr_reference,
        reference_method=found.reference_method or None,
        interval_sampled=found.interval_sampled,
        conclusion=found.verdict,
        nearness=schemas.Farther.model_validate(found.nearness) if found.nearness else None,
    )


def gate(row: tables.Gate, marks: Mapping[int, str]) -> schemas.Gate:
    """A decision without its evidence."""
    return schemas.Gate.model_validate(_gate(row, marks))


def gate_detail(row: tables.Gate, marks: Mapping[int, str]) -> schemas.GateDetail:
    """A decision with evidence and verdict."""
    return schemas.GateDetail.model_validate(
        _gate(row, marks) | {"policy": row.policy, "evidence": row.evidence, "verdict": row.verdict}
    )


def _gate(row: tables.Gate, marks: Mapping[int, str]) -> dict[str, object]:
    name = f"{row.model}@{row.step}{marks.get(row.checkpoint_id or 0, '')}"
    label = {"model": row.model, "step": row.step, "digest": row.digest}
    return {
        "id": row.id,
        "suite": row.suite,
        "candidate": label | {"checkpoint_id": row.checkpoint_id, "name": name},
        "baseline": row.baseline,
        "status": row.status,
        "outcome": text.title(text.stored(row)),
        "reason": row.verdict["reason"],
        "exit_code": row.exit_code,
        "shadow": row.shadow,
        "policy_digest": row.policy_digest,
        "by": row.by,
        "created_at": row.created_at,
    }
