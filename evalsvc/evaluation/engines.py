"""Engines: what computed the arrays behind a score; a score of two kinds of engine says so.

Features of one protocol agree between engines (OpenVINO, torch on a CPU or a GPU) far below the error of a score, but
not bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.shards import ShardKind, likelihood_kind
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.suite_entries import MetricUse

KEY = "engines"
"""Metadata of a shard: the engine of the generator, and of each extractor by its label."""
GENERATOR = "generator"


def noted(spec: EvaluationSpec, context: EvaluationContext) -> dict[str, str]:
    """Metadata of a shard that is computed here and now."""
    extractors = {label: opening.extractor(context, use).info.backend for label, use in spec.suite.extractors.items()}
    return {KEY: json.dumps({GENERATOR: context.device.type, **extractors})}


def engines_of(spec: EvaluationSpec, context: EvaluationContext, use: MetricUse) -> list[str]:
    """The kinds of engine that made the arrays that a metric reads, sorted; those of older shards are unknown."""
    label = use.features.partition("/")[0]
    kinds: list[ShardKind] = [likelihood_kind(use.against)] if use.of_documents else ["samples"] if label else []
    found = {noted[label or GENERATOR] for kind in kinds for noted in _of_shards(spec, context, kind)}
    if label and use.reference_facts:
        # Arrays of references are kept apart by engine, and here this machine's are read.
        found.add(opening.extractor(context, spec.suite.extractors[label]).info.backend)
    return sorted(found - {""})


def _of_shards(spec: EvaluationSpec, context: EvaluationContext, kind: ShardKind) -> Iterator[Mapping[str, str]]:
    for shard in spec.shards_of(kind):
        metadata = context.artifacts.read_metadata(spec.shard_key(shard))
        yield dict.fromkeys((GENERATOR, *spec.suite.extractors), "") | json.loads(metadata.get(KEY, "{}"))
