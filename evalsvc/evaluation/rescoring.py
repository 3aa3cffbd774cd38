"""Rescoring of an evaluation from its stored shards, without its checkpoint and generator."""

from __future__ import annotations

from pydantic import ValidationError
from sqlalchemy import update

from evalsvc.core.errors import EvalsvcError
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.first_samples import used_first_samples
from evalsvc.evaluation.recording import describe
from evalsvc.evaluation.runner import evaluate
from evalsvc.evaluation.scoring import reduce
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.evaluation.stored_shards import needs_generator
from evalsvc.inputs.suites import Suite
from evalsvc.metrics.score import MetricError
from evalsvc.store import tables


def rescore(run: tables.Evaluation, suite: Suite, context: EvaluationContext) -> bool:
    """Score an evaluation with the current metrics and reference.

    Returns False if a shard is missing or damaged, the suite differs, or the shards are the first samples of a larger
    set.
    """
    if used_first_samples(run.spec, context.artifacts):
        return False
    try:
        old = EvaluationSpec.model_validate(run.spec)
        reference = opening.reference(context, suite.reference) if suite.reference else None
        spec = old.model_copy(
            update={
                "suite": suite,
                "extractors": {
                    label: opening.extractor(context, use).info.protocol for label, use in suite.extractors.items()
                },
                "scorers": {label: opening.scorer(context, use).info.protocol for label, use in suite.scorers.items()},
                "reference": {split: reference.digests[split] for split in old.reference} if reference else {},
                "reference_counts": {split: len(reference.split(split)) for split in old.reference}
                if reference
                else {},
            }
        )
        if any(needs_generator(spec, shard, context) for shard in spec.shards):
            return False
        evaluate(spec, context)
    except (EvalsvcError, MetricError, ValidationError, KeyError):
        return False
    return True


def restore(evaluation: int, context: EvaluationContext, *, may_compute: bool) -> None:
    """Rewrite the files of an evaluation for pages and gates, if its shards are intact or may be recomputed."""
    with context.database.read() as session:
        run = session.get_one(tables.Evaluation, evaluation)
    try:
        spec = EvaluationSpec.model_validate(run.spec)
        if spec.fingerprint != run.fingerprint:
            return  # under other versions of its metrics, they would not match its scores
        if not may_compute and any(needs_generator(spec, shard, context) for shard in spec.shards):
            return
        with context.artifacts.lock(f"locks/{spec.fingerprint}"):
            files = describe(reduce(spec, context).files, context.artifacts)
    except (EvalsvcError, MetricError, ValidationError, KeyError):
        return
    with context.database.write() as session:
        for file in files:
            same = update(tables.Artifact).where(tables.Artifact.path == file.path)
            session.execute(same.values(digest=file.digest, bytes=file.bytes))
