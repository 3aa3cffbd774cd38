"""From the shards of an evaluation to its scores, and to what people look at later."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evalsvc import contracts
from evalsvc.digests import digest_json
from evalsvc.errors import InputError
from evalsvc.gallery import THUMBNAILS, joined, of_reference, pictures_of
from evalsvc.plugins import EmbedsTexts, ExtractorInfo
from evalsvc.reference_statistics import StatisticsFile
from evalsvc.references import array_key, extract_reference, key_beside, read_reference
from evalsvc.samples import Texts
from evalsvc.shards import likelihood_kind
from evalsvc.spec import EvaluationSpec
from evalsvc.suites import CONTROLS, COUNTS, FEATURES, Half, MetricUse
from evalsvc.workbench import Advance, Workbench
from metrics import pairs
from metrics.manifold import Radii, neighbour_radii
from metrics.moments import Moments
from metrics.neighbours import nearest_neighbours
from metrics.score import MetricError, Score

LIKELIHOOD = COUNTS | {"nll"}
BY_MOMENTS = {"frechet_distance", "frechet_distance_infinity"}
"""Metrics that need no more of a reference than its moments."""
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
class LikelihoodsOfHalf:
    """Negative log-likelihoods of a half of the reference, what they can be divided by, and how they were found."""

    columns: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]

    @property
    def nats(self) -> np.ndarray:
        """One number an item."""
        return self.columns["nats"]

    def units(self, name: str) -> np.ndarray | int:
        """``dims`` of every item, or its ``tokens``, ``words`` or ``bytes``."""
        if name == "dims" and "units" in self.metadata:
            return int(self.metadata["units"])
        if name not in self.columns:
            raise MetricError(f"the generator's likelihoods have no {name}: measure what fits its samples")
        return self.columns[name]

    def facts_for(self, inputs: Collection[str]) -> dict[str, str]:
        """Kind and settings; perplexities of two tokenizers differ in unit, bits per byte do not."""
        facts: dict[str, str] = json.loads(self.metadata.get("facts", "{}"))
        return {"kind": self.metadata["kind"]} | {
            k: v for k, v in facts.items() if k != "tokenizer" or "tokens" in inputs
        }


@dataclass(frozen=True)
class Reduction:
    """What an evaluation found: scores, what did not apply and why, and the files it left by kind."""

    scores: tuple[LabelledScore, ...]
    not_applicable: Mapping[str, str]
    files: Mapping[str, str]


def reduce(spec: EvaluationSpec, bench: Workbench) -> Reduction:
    """All scores of an evaluation whose shards are on disk. Metrics read the shards in order, mapped, not loaded."""
    _extract_references(spec, bench)
    generated = _gather_features(spec, bench)
    reference = functools.cache(functools.partial(_reference_array, spec, bench))
    calls: list[_Call] = []
    not_applicable: dict[str, str] = {}
    for use in spec.suite.metrics:
        if "nll" in use.spec.inputs and not use.features and not spec.likelihood:
            reason = f"generator {spec.generator!r} gives no likelihood"
            not_applicable |= {use.label_of(quantity.name): reason for quantity in use.spec.quantities}
        else:
            calls.append(_call(spec, use, bench, generated, reference))
    scores = tuple(_measure(calls, bench.progress("metrics", len(calls))))
    return Reduction(scores, not_applicable, _keep(spec, bench, generated))


@dataclass(frozen=True, eq=False)
class _Call:
    """A metric with all it needs, and the facts that make its scores comparable."""

    use: MetricUse
    arguments: Mapping[str, Any]
    facts: Mapping[str, Any]


def _measure(calls: Sequence[_Call], advance: Advance) -> Iterator[LabelledScore]:
    """Call each metric; those that look at all pairs of the same two sets do it in one pass."""
    plans = {call: call.use.spec.plan(**call.arguments) for call in calls if call.use.spec.plan}
    found = dict(zip(plans, pairs.measure(list(plans.values())), strict=True))
    advance(len(found))
    for call in calls:
        if call not in found:
            found[call] = call.use.spec.function(**call.arguments)
            advance(1)
        result = found[call]
        for score in [result] if isinstance(result, Score) else result.values():
            yield LabelledScore(call.use.label_of(score.name), score, {**call.facts, "quantity": score.name})


def _call(
    spec: EvaluationSpec,
    use: MetricUse,
    bench: Workbench,
    generated: Mapping[str, np.ndarray],
    reference: Callable[[str, Half], np.ndarray | Moments],
) -> _Call:
    facts: dict[str, Any] = {"metric": use.metric, "version": use.spec.version, "options": use.options}
    inputs: dict[str, Any] = {}
    control = CONTROLS & set(use.spec.options) if "heldout" in spec.reference else ()
    for name in (*use.spec.inputs, *control):
        if use.features and name in LIKELIHOOD:
            inputs[name] = generated[f"{use.features}/{name}"][:, 0]
            facts |= {"features": bench.extractor(spec.suite.extractors[use.features]).info.protocol}
            facts |= {"samples": spec.suite.samples, "kind": "exact"}
        elif name in FEATURES:
            inputs[name] = generated[use.features]
            info, output = _feature(spec, bench, use.features)
            facts |= {"features": f"{info.protocol}/{output}", "samples": spec.suite.samples}
        elif name in ("reference", "train", "heldout"):
            half: Half = use.against if name == "reference" else name
            inputs[name] = reference(use.features, half)
            facts[name] = spec.reference[half]
        elif name == "prompts":
            assert spec.suite.prompts
            inputs[name] = _embedded_prompts(spec, use, bench)
            facts[name] = spec.suite.prompts.sha256
        elif name in ("train_texts", "heldout_texts"):
            half = "train" if name == "train_texts" else "heldout"
            inputs[name] = _reference_texts(spec, bench, half)
            facts[name] = spec.reference[half]
        elif name == "texts":
            inputs[name] = read_texts(spec, bench)
            facts["samples"] = spec.suite.samples
        elif name == "nll":
            likelihoods = read_likelihoods(spec, bench, use.against)
            inputs[name] = likelihoods.nats
            facts |= {"reference": spec.reference[use.against], **likelihoods.facts_for(use.spec.inputs)}
        else:
            inputs[name] = likelihoods.units(name)
    if use.metric in BY_MOMENTS:
        inputs["reference"] = _moments(spec, use, bench, inputs["reference"])
    if "reference_radii" in use.spec.options:
        inputs["reference_radii"] = _radii(spec, use, bench, inputs["reference"])
    if "tokenizer" in use.spec.options:
        facts["tokenizer"] = use.tokenizer
    return _Call(use, inputs | use.arguments, facts)


def _embedded_prompts(spec: EvaluationSpec, use: MetricUse, bench: Workbench) -> np.ndarray:
    """One row a prompt, computed once for each set of prompts and each extractor."""
    assert spec.suite.prompts
    label, _, output = use.features.partition("/")
    extractor = bench.extractor(spec.suite.extractors[label])
    assert isinstance(extractor, EmbedsTexts)
    prompts = bench.prompts(spec.suite)[: spec.suite.samples]
    facts = f"{extractor.info.protocol}-{extractor.info.backend}"
    key = f"prompts/{spec.suite.prompts.sha256}/{facts}/{output}-{len(prompts)}.npy"
    if not bench.artifacts.exists(key):
        with bench.artifacts.matrix_writer(key, len(prompts)) as writer:

            def embed(start: int, stop: int) -> np.ndarray:
                return extractor.embed_texts(prompts[start:stop]).float().cpu().numpy()

            for block in bench.batches.over(0, len(prompts), embed):
                writer.append(block)
    return bench.artifacts.read_matrix(key)


def _extract_references(spec: EvaluationSpec, bench: Workbench) -> None:
    extractors = [bench.extractor(use) for use in spec.suite.extractors.values()]
    for half, digest in spec.reference.items() if extractors else ():
        samples = bench.reference_of(spec).half(half)
        advance = bench.progress(f"reference {half}", len(samples))
        extract_reference(bench.artifacts, samples, digest, extractors, bench.batches, advance)


def _reference_array(spec: EvaluationSpec, bench: Workbench, features: str, half: Half) -> np.ndarray | Moments:
    info, output = _feature(spec, bench, features)
    samples = bench.reference_of(spec).half(half)
    if isinstance(samples, StatisticsFile):
        return samples.moments(info, output)
    return read_reference(bench.artifacts, spec.reference[half], info, output)


def _feature(spec: EvaluationSpec, bench: Workbench, features: str) -> tuple[ExtractorInfo, str]:
    """The extractor and the output that ``label/output`` means in this suite."""
    label, _, output = features.partition("/")
    return bench.extractor(spec.suite.extractors[label]).info, output


def _moments(
    spec: EvaluationSpec, use: MetricUse, bench: Workbench, reference: np.ndarray | Moments
) -> np.ndarray | Moments:
    """The reference's moments; few rows are cheaper as they are."""
    if isinstance(reference, Moments) or len(reference) < reference.shape[1]:
        return reference

    def find() -> dict[str, np.ndarray]:
        moments = Moments.of(reference)
        return {"mean": moments.mean.numpy(), "scatter": moments.scatter.numpy()}

    sums = _found_once(spec, use, bench, "moments", find)
    return Moments.of_sums(len(reference), *(torch.from_numpy(sums[name]) for name in ("mean", "scatter")))


def _radii(spec: EvaluationSpec, use: MetricUse, bench: Workbench, reference: np.ndarray) -> Radii:
    """The reference's nearest-neighbour balls."""
    k = use.options.get("k", use.spec.options["k"])

    def find() -> dict[str, np.ndarray]:
        radii = neighbour_radii(reference, k)
        return {"squared": radii.squared, "neighbours": radii.neighbours, "distances": radii.distances}

    return Radii(k, **_found_once(spec, use, bench, f"balls-{k}", find))


def _found_once(
    spec: EvaluationSpec, use: MetricUse, bench: Workbench, name: str, find: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Arrays found from the reference's own array, which are kept beside it."""
    info, output = _feature(spec, bench, use.features)
    key = key_beside(array_key(spec.reference[use.against], info, output), name)
    if not bench.artifacts.exists(key):
        bench.artifacts.write_arrays(key, find())
    return bench.artifacts.read_arrays(key)


def _gather_features(spec: EvaluationSpec, bench: Workbench) -> dict[str, np.ndarray]:
    """One mapped matrix an output, concatenated from the shards in order."""
    artifacts, count = bench.artifacts, spec.suite.samples
    names = {array for use in spec.suite.metrics for array in use.arrays} | {spec.suite.neighbours} - {""}
    keys = {name: f"{spec.samples_key}/features-{count}/{name.replace('/', '.')}.npy" for name in sorted(names)}
    missing = {name: key for name, key in keys.items() if not artifacts.exists(key)}
    if missing:
        widths: dict[str, int] = {}
        with ExitStack() as stack:
            writers = {n: stack.enter_context(artifacts.matrix_writer(k, count)) for n, k in missing.items()}
            for shard in spec.shards_of("samples"):
                arrays = artifacts.read_arrays(spec.shard_key(shard))
                for name, writer in writers.items():
                    contracts.same_width(name, widths.setdefault(name, arrays[name].shape[1]), arrays[name])
                    writer.append(arrays[name])
    return {name: artifacts.read_matrix(key) for name, key in keys.items()}


def read_texts(spec: EvaluationSpec, bench: Workbench) -> list[str]:
    """All texts that were written for an evaluation, in order."""
    shards = (bench.artifacts.read_arrays(spec.shard_key(shard)) for shard in spec.shards_of("samples"))
    return [text for arrays in shards for text in json.loads(arrays["texts"].tobytes())]


def _reference_texts(spec: EvaluationSpec, bench: Workbench, half: Half) -> list[str]:
    documents = bench.reference_of(spec).half(half)
    found = documents.read(0, len(documents))
    if not isinstance(found, Texts):
        raise InputError(f"reference {spec.suite.reference!r} holds no texts, with which texts are compared")
    return list(found.items)


def read_likelihoods(spec: EvaluationSpec, bench: Workbench, half: Half) -> LikelihoodsOfHalf:
    """The likelihood of every item of a half, as the shards hold them."""
    keys = [spec.shard_key(shard) for shard in spec.shards_of(likelihood_kind(half))]
    parts = [bench.artifacts.read_arrays(key) for key in keys]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return LikelihoodsOfHalf(columns, bench.artifacts.read_metadata(keys[0]))


def _keep(spec: EvaluationSpec, bench: Workbench, generated: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Write what people look at later, first samples and nearest training neighbours; keys by kind."""
    folder, whole = f"evaluations/{spec.fingerprint[:32]}", spec.suite.gallery
    shards = [shard for shard in spec.shards_of("samples") if shard.start < max(whole, THUMBNAILS)]
    kept = joined([bench.artifacts.read_arrays(spec.shard_key(shard)) for shard in shards], whole)
    if "train" in spec.reference and not isinstance(train := bench.reference_of(spec).half("train"), StatisticsFile):
        for kind, arrays in {} if _shown(spec, bench) else of_reference(train, whole).items():
            bench.artifacts.write_arrays(f"reference/{spec.reference['train']}/{kind}.safetensors", arrays)
        if spec.suite.neighbours:
            kept["neighbours"] = _neighbours(spec, bench, generated[spec.suite.neighbours])
    files = {kind: f"{folder}/{kind}.safetensors" for kind in kept}
    for kind, key in files.items():
        bench.artifacts.write_arrays(key, kept[kind])
    return files


def _shown(spec: EvaluationSpec, bench: Workbench) -> bool:
    return bench.artifacts.exists(f"reference/{spec.reference['train']}/gallery.safetensors")


def _neighbours(spec: EvaluationSpec, bench: Workbench, generated: np.ndarray) -> dict[str, np.ndarray]:
    """The training samples nearest to each sample, those of the gallery pictured; held-out ones are the control."""
    name, halves = spec.suite.neighbours, bench.reference_of(spec)
    train = _reference_array(spec, bench, name, "train")
    assert isinstance(train, np.ndarray)
    found = nearest_neighbours(generated, train, NEIGHBOURS)
    arrays = {"distances": found.distances, "indices": found.indices}
    pictures = pictures_of(halves.half("train"), found.indices[: spec.suite.gallery])
    if pictures is not None:
        arrays["pictures"] = pictures
    if "heldout" in spec.reference:
        control = _reference_array(spec, bench, name, "heldout")
        assert isinstance(control, np.ndarray)
        arrays["heldout"] = nearest_neighbours(control, train, 1).distances[:, 0]
    return arrays
