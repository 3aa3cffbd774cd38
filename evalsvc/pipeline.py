"""From a frozen spec to shards, computed one by one. Knows no queue and no order of workers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from evalsvc import contracts
from evalsvc.cost import Cost, Meter
from evalsvc.gallery import Shown
from evalsvc.language.counts import count_bytes, count_words
from evalsvc.plugins import Likelihood
from evalsvc.samples import SampleRequest, Samples, Texts
from evalsvc.shards import Shard
from evalsvc.spec import EvaluationSpec
from evalsvc.workbench import Advance, Workbench


@dataclass(frozen=True)
class ShardContent:
    """A shard's arrays before they are written, and what they cost."""

    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]
    cost: Cost


def compute_shard(spec: EvaluationSpec, shard: Shard, bench: Workbench, advance: Advance) -> Cost | None:
    """Compute one shard and write it atomically; its cost, or ``None`` where its file was there already."""
    content = shard_content(spec, shard, bench, advance)
    return None if content is None else write_shard(spec, shard, bench, content)


def shard_content(spec: EvaluationSpec, shard: Shard, bench: Workbench, advance: Advance) -> ShardContent | None:
    """Compute one shard; ``None`` where its file is there already."""
    if bench.artifacts.exists(spec.shard_key(shard)):
        advance(shard.stop - shard.start)
        return None
    meter = Meter(bench.device)
    arrays, metadata = (_sample if shard.kind == "samples" else _likelihood)(spec, shard, bench, advance)
    return ShardContent(arrays, metadata, meter.cost())


def write_shard(spec: EvaluationSpec, shard: Shard, bench: Workbench, content: ShardContent) -> Cost:
    """Write a shard atomically; what it cost, the time to write it included."""
    started = time.perf_counter()
    bench.artifacts.write_arrays(spec.shard_key(shard), content.arrays, content.metadata)
    return replace(content.cost, seconds=content.cost.seconds + time.perf_counter() - started)


def _sample(
    spec: EvaluationSpec, shard: Shard, bench: Workbench, advance: Advance
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    generator = bench.generator_of(spec)

    def draw(start: int, stop: int) -> tuple[Samples, dict[str, np.ndarray]]:
        request = SampleRequest.of(spec.seed, start, stop, bench.device, bench.prompts(spec.suite))
        samples = contracts.sample(generator, request)
        return samples, {
            f"{label}/{output}": array
            for label, use in spec.suite.extractors.items()
            for output, array in contracts.extract(bench.extractor(use), samples).items()
        }

    blocks: dict[str, list[np.ndarray]] = {}
    texts: list[str] = []
    shown = Shown(shard.start, spec.suite.gallery)
    for samples, found in bench.batches.over(shard.start, shard.stop, draw):
        for name, array in found.items():
            blocks.setdefault(name, []).append(array)
        if isinstance(samples, Texts):
            texts.extend(samples.items)
        shown.add(samples)
        advance(len(samples))
    arrays = {name: contracts.join(name, parts) for name, parts in blocks.items()}
    if texts:
        arrays["texts"] = np.frombuffer(json.dumps(texts).encode(), np.uint8)
    return arrays | shown.arrays(), {}


def _likelihood(
    spec: EvaluationSpec, shard: Shard, bench: Workbench, advance: Advance
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    generator = bench.generator_of(spec)
    assert isinstance(generator, Likelihood)
    items = bench.reference_of(spec).half(shard.half)

    def measure(start: int, stop: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        batch = items.read(start, stop)
        request = SampleRequest.of(spec.seed, start, stop, bench.device)
        result = contracts.nll(generator, f"generator {spec.generator!r}", batch, request)
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
    for part in bench.batches.over(shard.start, shard.stop, measure):
        parts.append(part)
        advance(len(part[0]["nats"]))
    columns, metadata = parts[0]
    return {name: np.concatenate([part[name] for part, _ in parts]) for name in columns}, metadata
