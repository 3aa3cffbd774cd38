"""Scoring an evaluation anew from the shards that it left, without its checkpoint and generator."""

from __future__ import annotations

from pydantic import ValidationError

from evalsvc.errors import EvalsvcError
from evalsvc.evaluations import evaluate
from evalsvc.first_samples import took_first
from evalsvc.spec import EvaluationSpec
from evalsvc.store import tables
from evalsvc.suites import Suite
from evalsvc.workbench import Workbench
from metrics.score import MetricError


def rescore(run: tables.Evaluation, suite: Suite, bench: Workbench) -> bool:
    """Score an evaluation under today's metrics and reference.

    False where a shard is gone, the suite is another, or the shards hold the first samples of a larger set.
    """
    if took_first(run.spec, bench.artifacts):
        return False
    try:
        old = EvaluationSpec.model_validate(run.spec)
        reference = bench.reference(suite.reference) if suite.reference else None
        spec = old.model_copy(
            update={
                "suite": suite,
                "extractors": {label: bench.extractor(use).info.protocol for label, use in suite.extractors.items()},
                "reference": {half: reference.digests[half] for half in old.reference} if reference else {},
                "reference_counts": {half: len(reference.half(half)) for half in old.reference} if reference else {},
            }
        )
        if not all(bench.artifacts.exists(spec.shard_key(shard)) for shard in spec.shards):
            return False
        evaluate(spec, bench)
    except (EvalsvcError, MetricError, ValidationError, KeyError):
        return False
    return True
