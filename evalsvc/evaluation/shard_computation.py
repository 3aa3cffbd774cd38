"""Computation of single shards from a frozen spec, independent of queue and scheduling."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalsvc.core.cost import Cost
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import Advance, EvaluationContext
from evalsvc.evaluation.engines import noted
from evalsvc.evaluation.sample_shards import File, sample_files
from evalsvc.evaluation.shards import Shard
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.text_counts import count_bytes, count_words
from evalsvc.plugins import validation
from evalsvc.plugins.interfaces import Likelihood, PaysForSamples
from evalsvc.plugins.samples import SampleRequest, Texts


@dataclass(frozen=True)
class ShardContent:
    """Files of a shard before they are written, in this order, and their cost; ``settle`` is called after writing."""

    files: Sequence[File]
    cost: Cost
    settle: Callable[[], None]


def compute_shard(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, advance: Advance, *, rerun: bool = False
) -> Cost | None:
    """Compute one shard and write its files atomically; return its cost, or ``None`` if they exist."""
    content = shard_content(spec, shard, context, advance, rerun=rerun)
    return None if content is None else write_shard(context, content)


def shard_content(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, advance: Advance, *, rerun: bool
) -> ShardContent | None:
    """Compute what is missing of one shard, or damaged; all of it on a ``rerun``. ``None`` if nothing is."""
    meter = context.meter()
    files = (sample_files if shard.kind == "samples" else _likelihood_files)(spec, shard, context, advance, rerun=rerun)
    if not files:
        return None
    engines = noted(spec, context)
    files = [replace(file, metadata={**file.metadata, **engines}) for file in files]
    return ShardContent(files, meter.cost(), _receipt(context))


def _receipt(context: EvaluationContext) -> Callable[[], None]:
    plugins = [*([context.generator[1]] if context.generator else []), *context.scorers.values()]
    receipts = [each.receipt() for each in plugins if isinstance(each, PaysForSamples)]

    def settle() -> None:
        for receipt in receipts:
            receipt()

    return settle


def write_shard(context: EvaluationContext, content: ShardContent) -> Cost:
    """Write the files of a shard atomically; return its cost, including the time for writing."""
    started = time.perf_counter()
    for file in content.files:
        context.artifacts.write_arrays(file.key, file.arrays, file.metadata)
    content.settle()
    return replace(content.cost, seconds=content.cost.seconds + time.perf_counter() - started)


def _likelihood_files(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, advance: Advance, *, rerun: bool
) -> list[File]:
    key = spec.shard_key(shard)
    if not rerun and context.artifacts.is_sound(key):
        advance(shard.stop - shard.start)
        return []
    return [File(key, *_likelihood(spec, shard, context, advance))]


def _likelihood(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, advance: Advance
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    generator = opening.generator_of(context, spec)
    assert isinstance(generator, Likelihood)
    reference = opening.reference_of(context, spec)
    items = reference.split(shard.split)

    def measure(start: int, stop: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        batch = items.read(start, stop)
        request = SampleRequest.of(spec.seed, start, stop, context.device)
        result = validation.nll(generator, f"generator {spec.generator!r}", batch, request)
        columns = {"nats": result.nats.cpu().double().numpy()}
        metadata = {"kind": result.kind, "facts": json.dumps(dict(result.facts))}
        if isinstance(result.units, int):
            metadata["units"] = str(result.units)
        else:
            columns["tokens"] = result.units.cpu().numpy()
        if isinstance(batch, Texts):
            columns |= {"words": count_words(batch.items), "bytes": count_bytes(batch.items)}
        return columns, metadata

    parts = []
    for part in context.batches.over(shard.start, shard.stop, measure):
        parts.append(part)
        advance(len(part[0]["nats"]))
    reference.require_unchanged(shard.split)
    columns, metadata = parts[0]
    return {name: np.concatenate([part[name] for part, _ in parts]) for name in columns}, metadata
