"""From a frozen spec to scores: shards computed one by one, then reduced. Knows no queue and no order of workers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalsvc import contracts
from evalsvc.digests import digest_json
from evalsvc.plugins import ExtractorInfo, Likelihood
from evalsvc.reference_statistics import StatisticsFile
from evalsvc.references import OpenReference, array_key, extract_reference, read_reference
from evalsvc.samples import Images, SampleRequest, Texts
from evalsvc.spec import EvaluationSpec, Shard, likelihood_kind
from evalsvc.suites import FEATURES, Half, MetricUse
from evalsvc.workbench import Advance, Workbench
from metrics.manifold import Radii, neighbour_radii
from metrics.moments import Moments
from metrics.neighbours import nearest_neighbours
from metrics.score import Score

NEIGHBOURS = 3
"""Training neighbours kept for each sample."""


@dataclass(frozen=True)
class LabelledScore:
    """A score, the name under which its suite stores it, and the facts that make it comparable."""

    label: str
    score: Score
    facts: Mapping[str, Any]

    @property
    def protocol(self) -> str:
        """Short digest of the facts."""
        return digest_json(dict(self.facts))[:16]


@dataclass(frozen=True)
class Reduction:
    """What an evaluation found: scores, what did not apply and why, and the files it left by kind."""

    scores: tuple[LabelledScore, ...]
    not_applicable: Mapping[str, str]
    files: Mapping[str, str]


# --- shards ---


def compute_shard(spec: EvaluationSpec, shard: Shard, bench: Workbench, advance: Advance) -> float | None:
    """Compute one shard and write it atomically; seconds spent, or ``None`` where its file was there already."""
    if bench.artifacts.exists(spec.shard_key(shard)):
        advance(shard.stop - shard.start)
        return None
    started = time.perf_counter()
    arrays, metadata = (_sample if shard.kind == "samples" else _likelihood)(spec, shard, bench, advance)
    bench.artifacts.write_arrays(spec.shard_key(shard), arrays, metadata)
    return time.perf_counter() - started


def _requests(spec: EvaluationSpec, shard: Shard, bench: Workbench) -> Iterator[SampleRequest]:
    for start in range(shard.start, shard.stop, bench.batch_size):
        yield SampleRequest.of(spec.seed, start, min(start + bench.batch_size, shard.stop), bench.device)


def _sample(
    spec: EvaluationSpec, shard: Shard, bench: Workbench, advance: Advance
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    generator = bench.generator_of(spec)
    blocks: dict[str, list[np.ndarray]] = {}
    texts: list[str] = []
    for request in _requests(spec, shard, bench):
        samples = contracts.sample(generator, request)
        for label, use in spec.suite.extractors.items():
            for output, array in contracts.extract(bench.extractor(use), samples).items():
                blocks.setdefault(f"{label}/{output}", []).append(array)
        shown = max(0, spec.suite.gallery - int(request.indices[0]))
        if isinstance(samples, Texts):
            texts.extend(samples.items)
        elif shown and isinstance(samples, Images):
            blocks.setdefault("gallery", []).append(samples.pixels[:shown].cpu().numpy())
        advance(len(samples))
    arrays = {name: np.concatenate(parts) for name, parts in blocks.items()}
    if texts:
        arrays["texts"] = np.frombuffer(json.dumps(texts).encode(), np.uint8)
    return arrays, {}


def _likelihood(
    spec: EvaluationSpec, shard: Shard, bench: Workbench, advance: Advance
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    generator = bench.generator_of(spec)
    assert isinstance(generator, Likelihood)
    items = _reference(spec, bench).half(shard.half)
    nats, kind, units = [], "", 0
    for request in _requests(spec, shard, bench):
        start = int(request.indices[0])
        batch = items.read(start, start + len(request))
        result = contracts.nll(generator, f"generator {spec.generator!r}", batch, request)
        nats.append(result.nats.double().cpu().numpy())
        kind, units = result.kind, result.units
        advance(len(request))
    return {"nats": np.concatenate(nats)}, {"kind": kind, "units": str(units)}


# --- reduction ---


def reduce(spec: EvaluationSpec, bench: Workbench) -> Reduction:
    """All scores of an evaluation whose shards are on disk. Metrics read the shards in order, mapped, not loaded."""
    _extract_references(spec, bench)
    generated = _gather_features(spec, bench)
    scores: list[LabelledScore] = []
    not_applicable: dict[str, str] = {}
    advance = bench.progress("metrics", len(spec.suite.metrics))
    for use in spec.suite.metrics:
        if "nll" in use.spec.inputs and not spec.likelihood:
            reason = f"generator {spec.generator!r} gives no likelihood"
            not_applicable |= {use.label_of(quantity.name): reason for quantity in use.spec.quantities}
        else:
            scores.extend(_measure(spec, use, bench, generated))
        advance(1)
    return Reduction(tuple(scores), not_applicable, _keep(spec, bench, generated))


def _measure(
    spec: EvaluationSpec, use: MetricUse, bench: Workbench, generated: Mapping[str, np.ndarray]
) -> Iterator[LabelledScore]:
    facts: dict[str, Any] = {"metric": use.metric, "version": use.spec.version, "options": use.options}
    inputs: dict[str, Any] = {}
    control = ("heldout",) if use.has_control and "heldout" in spec.reference else ()
    for name in (*use.spec.inputs, *control):
        if name in FEATURES:
            inputs[name] = generated[use.features]
            info, output = _feature(spec, bench, use.features)
            facts |= {"features": f"{info.protocol}/{output}", "samples": spec.suite.samples}
        elif name in ("reference", "train", "heldout"):
            half: Half = use.against if name == "reference" else name
            inputs[name] = _reference_array(spec, bench, use.features, half)
            facts[name] = spec.reference[half]
        elif name == "texts":
            inputs[name] = _texts(spec, bench)
            facts["samples"] = spec.suite.samples
        elif name == "nll":
            inputs[name], facts["kind"], units = read_likelihoods(spec, bench, use.against)
            facts["reference"] = spec.reference[use.against]
        else:
            inputs[name] = units
    if "reference_radii" in use.spec.options:
        inputs["reference_radii"] = _radii(spec, use, bench, inputs["reference"])
    result = use.spec.function(**inputs, **use.options)
    for score in [result] if isinstance(result, Score) else result.values():
        yield LabelledScore(use.label_of(score.name), score, facts | {"quantity": score.name})


def _reference(spec: EvaluationSpec, bench: Workbench) -> OpenReference:
    assert spec.suite.reference is not None
    return bench.reference(spec.suite.reference)


def _extract_references(spec: EvaluationSpec, bench: Workbench) -> None:
    extractors = [bench.extractor(use) for use in spec.suite.extractors.values()]
    for half, digest in spec.reference.items() if extractors else ():
        samples = _reference(spec, bench).half(half)
        advance = bench.progress(f"reference {half}", len(samples))
        extract_reference(bench.artifacts, samples, digest, extractors, bench.batch_size, advance)


def _reference_array(spec: EvaluationSpec, bench: Workbench, features: str, half: Half) -> np.ndarray | Moments:
    info, output = _feature(spec, bench, features)
    samples = _reference(spec, bench).half(half)
    if isinstance(samples, StatisticsFile):
        return samples.moments(info, output)
    return read_reference(bench.artifacts, spec.reference[half], info, output)


def _feature(spec: EvaluationSpec, bench: Workbench, features: str) -> tuple[ExtractorInfo, str]:
    """The extractor and the output that ``label/output`` means in this suite."""
    label, _, output = features.partition("/")
    return bench.extractor(spec.suite.extractors[label]).info, output


def _radii(spec: EvaluationSpec, use: MetricUse, bench: Workbench, reference: np.ndarray) -> Radii:
    """The reference's nearest-neighbour balls, computed once for each k and kept beside its arrays."""
    info, output = _feature(spec, bench, use.features)
    k = use.options.get("k", use.spec.options["k"])
    key = array_key(spec.reference[use.against], info, output).replace(".npy", f".balls-{k}.safetensors")
    if bench.artifacts.exists(key):
        return Radii(k, **bench.artifacts.read_arrays(key))
    radii = neighbour_radii(reference, k)
    arrays = {"squared": radii.squared, "neighbours": radii.neighbours, "distances": radii.distances}
    bench.artifacts.write_arrays(key, arrays)
    return radii


def _gather_features(spec: EvaluationSpec, bench: Workbench) -> dict[str, np.ndarray]:
    """One mapped matrix an output, concatenated from the shards in order."""
    artifacts, count = bench.artifacts, spec.suite.samples
    names = {use.features for use in spec.suite.metrics if use.features} | {spec.suite.neighbours} - {""}
    keys = {name: f"{spec.samples_key}/features-{count}/{name.replace('/', '.')}.npy" for name in sorted(names)}
    missing = {name: key for name, key in keys.items() if not artifacts.exists(key)}
    if missing:
        with ExitStack() as stack:
            writers = {n: stack.enter_context(artifacts.matrix_writer(k, count)) for n, k in missing.items()}
            for shard in spec.shards_of("samples"):
                arrays = artifacts.read_arrays(spec.shard_key(shard))
                for name, writer in writers.items():
                    writer.append(arrays[name])
    return {name: artifacts.read_matrix(key) for name, key in keys.items()}


def _texts(spec: EvaluationSpec, bench: Workbench) -> list[str]:
    shards = (bench.artifacts.read_arrays(spec.shard_key(shard)) for shard in spec.shards_of("samples"))
    return [text for arrays in shards for text in json.loads(arrays["texts"].tobytes())]


def read_likelihoods(spec: EvaluationSpec, bench: Workbench, half: Half) -> tuple[np.ndarray, str, int]:
    """Nats of every item of a half, as the shards hold them, with their kind and the units of an item."""
    keys = [spec.shard_key(shard) for shard in spec.shards_of(likelihood_kind(half))]
    metadata = bench.artifacts.read_metadata(keys[0])
    nats = np.concatenate([bench.artifacts.read_arrays(key)["nats"] for key in keys])
    return nats, metadata["kind"], int(metadata["units"])


def _keep(spec: EvaluationSpec, bench: Workbench, generated: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Write what people look at later, the gallery and the nearest training neighbours; keys by kind."""
    folder = f"evaluations/{spec.fingerprint[:32]}"
    files = {}
    shards = [shard for shard in spec.shards_of("samples") if shard.start < spec.suite.gallery]
    gallery = [bench.artifacts.read_arrays(spec.shard_key(shard)).get("gallery") for shard in shards]
    if pixels := [block for block in gallery if block is not None]:
        files["gallery"] = f"{folder}/gallery.safetensors"
        bench.artifacts.write_arrays(files["gallery"], {"pixels": np.concatenate(pixels)})
    if spec.suite.neighbours and spec.reference:
        files["neighbours"] = f"{folder}/neighbours.safetensors"
        train = _reference_array(spec, bench, spec.suite.neighbours, "train")
        assert isinstance(train, np.ndarray)
        found = nearest_neighbours(generated[spec.suite.neighbours], train, NEIGHBOURS)
        bench.artifacts.write_arrays(files["neighbours"], {"distances": found.distances, "indices": found.indices})
    return files
