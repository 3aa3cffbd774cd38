"""Computation of single shards from a frozen spec, independent of queue and scheduling."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from evalsvc.core.cost import Cost, Meter
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import Advance, EvaluationContext
from evalsvc.evaluation.gallery import GalleryCollector
from evalsvc.evaluation.items import request_of, sources_of
from evalsvc.evaluation.shards import Shard
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.text_counts import count_bytes, count_words
from evalsvc.plugins import validation
from evalsvc.plugins.interfaces import Likelihood, ReadsAhead
from evalsvc.plugins.samples import SampleRequest, Samples, Texts


@dataclass(frozen=True)
class ShardContent:
    """A shard's arrays before they are written, and their cost."""

    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]
    cost: Cost


def compute_shard(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, advance: Advance, *, rerun: bool = False
) -> Cost | None:
    """Compute one shard and write it atomically; return its cost, or ``None`` if its file exists."""
    content = shard_content(spec, shard, context, advance, rerun=rerun)
    return None if content is None else write_shard(spec, shard, context, content)


def shard_content(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, advance: Advance, *, rerun: bool
) -> ShardContent | None:
    """Compute one shard; ``None`` if its file exists, unless it is damaged or ``rerun`` requests a new one."""
    if not rerun and context.artifacts.is_sound(spec.shard_key(shard)):
        advance(shard.stop - shard.start)
        return None
    meter = Meter(context.device)
    arrays, metadata = (_sample if shard.kind == "samples" else _likelihood)(spec, shard, context, advance)
    return ShardContent(arrays, metadata, meter.cost())


def write_shard(spec: EvaluationSpec, shard: Shard, context: EvaluationContext, content: ShardContent) -> Cost:
    """Write a shard atomically; return its cost, including the time for writing it."""
    started = time.perf_counter()
    context.artifacts.write_arrays(spec.shard_key(shard), content.arrays, content.metadata)
    return replace(content.cost, seconds=content.cost.seconds + time.perf_counter() - started)


def _sample(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, advance: Advance
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    generator = opening.generator_of(context, spec)
    if isinstance(generator, ReadsAhead):
        generator.expect(sources_of(context, spec, shard.start, spec.suite.samples))

    def draw(start: int, stop: int) -> tuple[Samples, dict[str, np.ndarray]]:
        samples = validation.sample(generator, request_of(context, spec, start, stop))
        return samples, {
            f"{label}/{output}": array
            for label, use in spec.suite.extractors.items()
            for output, array in validation.extract(opening.extractor(context, use), samples).items()
        }

    blocks: dict[str, list[np.ndarray]] = {}
    texts: list[str] = []
    shown = GalleryCollector(shard.start, spec.suite.gallery)
    for samples, found in context.batches.over(shard.start, shard.stop, draw):
        for name, array in found.items():
            blocks.setdefault(name, []).append(array)
        if isinstance(samples, Texts):
            texts.extend(samples.items)
        shown.add(samples)
        advance(len(samples))
    arrays = {name: validation.join(name, parts) for name, parts in blocks.items()}
    arrays["indices"] = spec.indices(shard.start, shard.stop).astype(np.int64)
    if texts:
        arrays["texts"] = np.frombuffer(json.dumps(texts).encode(), np.uint8)
    return arrays | shown.arrays(), {}


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
