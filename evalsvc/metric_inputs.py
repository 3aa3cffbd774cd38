"""What the metrics of an evaluation are given: arrays, mapped and not loaded, and what is found once of a reference."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evalsvc.digests import digest_json
from evalsvc.errors import InputError
from evalsvc.pipeline import read_features, read_likelihoods, read_texts
from evalsvc.plugins import EmbedsTexts, ExtractorInfo, SampleSet
from evalsvc.reference_statistics import StatisticsFile
from evalsvc.references import OpenReference, array_key, extract_reference, key_beside, read_reference
from evalsvc.samples import Texts
from evalsvc.sampling_units import SamplingUnits, documents
from evalsvc.spec import EvaluationSpec
from evalsvc.suites import CONTROLS, COUNTS, FEATURES, Half, MetricUse
from evalsvc.verification import Verified
from evalsvc.workbench import Workbench
from metrics.manifold import Radii, neighbour_radii
from metrics.memorization import Training, training_spacing
from metrics.moments import Moments
from metrics.neighbours import nearest_neighbours

LIKELIHOOD = COUNTS | {"nll"}
BY_MOMENTS = {"frechet_distance", "frechet_distance_infinity"}
"""Metrics that need no more of a reference than its moments."""


@dataclass(frozen=True)
class Call:
    """All that a metric is given, the facts that make its scores comparable, and the units that are independent."""

    arguments: dict[str, Any]
    facts: dict[str, Any]
    units: SamplingUnits


class MetricInputs:
    """Opened once for an evaluation whose shards are on disk; references not yet extracted are extracted here.

    ``rows`` are the samples that are measured, all of them unless a part is asked for.
    """

    def __init__(self, spec: EvaluationSpec, bench: Workbench, rows: slice = slice(None)) -> None:
        self.spec, self.bench, self.rows = spec, bench, rows
        self._maps: list[Verified] = []
        self._extract_references()
        self.generated = {name: array[rows] for name, array in read_features(spec, bench, self._maps).items()}
        self.reference = functools.cache(self._reference)
        self.units = SamplingUnits.of(spec, bench.prompts(spec.suite)).part(rows)

    def call(self, use: MetricUse) -> Call:
        """What a metric of the suite is to be called with."""
        spec, suite = self.spec, self.spec.suite
        facts: dict[str, Any] = {"metric": use.metric, "version": use.spec.version, "options": use.options}
        inputs: dict[str, Any] = {}
        control = CONTROLS & set(use.spec.options) if "heldout" in spec.reference else ()
        for name in (*use.spec.inputs, *control):
            if use.features and name in LIKELIHOOD:
                inputs[name] = self.generated[f"{use.features}/{name}"][:, 0]
                facts |= {"features": self.bench.extractor(suite.extractors[use.features]).info.protocol}
                facts |= {"samples": suite.samples, "kind": "exact"}
            elif name in FEATURES:
                inputs[name] = self.generated[use.features]
                info, output = self._feature(use.features)
                facts |= {"features": f"{info.protocol}/{output}", "samples": suite.samples}
            elif name in ("reference", "train", "heldout"):
                half: Half = use.against if name == "reference" else name
                inputs[name] = self.reference(use.features, half)
                facts[name] = spec.reference[half]
            elif name == "prompts":
                assert suite.prompts
                inputs[name] = self._embedded_prompts(use)[self.rows]
                facts[name] = suite.prompts.sha256
            elif name in ("train_texts", "heldout_texts"):
                half = "train" if name == "train_texts" else "heldout"
                inputs[name] = self._reference_texts(half)
                facts[name] = spec.reference[half]
            elif name == "texts":
                inputs[name] = read_texts(spec, self.bench)[self.rows]
                facts["samples"] = suite.samples
            elif name == "nll":
                likelihoods = read_likelihoods(spec, self.bench, use.against)
                inputs[name] = likelihoods.nats
                facts |= {"reference": spec.reference[use.against], **likelihoods.facts_for(use.spec.inputs)}
            else:
                inputs[name] = likelihoods.units(name)
        if "samples" in facts and spec.order and spec.order.is_partial(suite.samples):
            facts["order"] = spec.order.facts
        if use.metric in BY_MOMENTS:
            inputs["reference"] = self._moments(use, inputs["reference"])
        if "reference_radii" in use.spec.options:
            inputs["reference_radii"] = self._radii(use, inputs["reference"])
        if "training" in use.spec.options and len(inputs["train"]) <= 2 * len(inputs["generated"]):
            inputs["training"] = self._training(use, inputs["train"], inputs.get("heldout"))
        generated = "nll" not in use.spec.inputs or bool(use.features)
        if generated and "groups" in use.spec.options:
            inputs["groups"] = self.units.groups
        if "tokenizer" in use.spec.options:
            facts["tokenizer"] = use.tokenizer
        return Call(inputs | use.arguments, facts, self.units if generated else documents(spec, use.against))

    def array(self, features: str, half: Half) -> np.ndarray:
        """The features of a half that has samples."""
        reference = self.reference(features, half)
        assert isinstance(reference, np.ndarray)
        return reference

    def heldout_distances(self, features: str) -> dict[str, np.ndarray]:
        """How far held-out samples, if there are any, are from the nearest training sample, as ``heldout``."""
        if "heldout" not in self.spec.reference:
            return {}

        def find() -> dict[str, np.ndarray]:
            train, heldout = self.array(features, "train"), self.array(features, "heldout")
            return {"heldout": nearest_neighbours(heldout, train).distances[:, 0]}

        return self._found_once(features, "train", f"nearest-{self._heldout}", find)

    @property
    def _heldout(self) -> str:
        """In the name of what is found with the held-out samples."""
        return self.spec.reference["heldout"][:16]

    def _found_once(
        self, features: str, half: Half, name: str, find: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Arrays found from a half's own array, which are kept beside it."""
        artifacts = self.bench.artifacts
        key = key_beside(array_key(self.spec.reference[half], *self._feature(features)), name)
        if not artifacts.is_sound(key):
            found = find()
            self.require_unchanged()
            artifacts.write_arrays(key, found)
        return artifacts.read_arrays(key)

    def require_unchanged(self) -> None:
        """Make sure that what was mapped is still what was verified.

        Raises:
            DamagedError: somebody has written into a file.
        """
        for each in self._maps:
            each.require_unchanged()

    def half(self, half: Half) -> SampleSet:
        """The real samples of a half."""
        return self._opened.half(half)

    @property
    def _opened(self) -> OpenReference:
        return self.bench.reference_of(self.spec)

    def has_samples(self, half: Half) -> bool:
        """Whether there is such a half, and more of it than published statistics."""
        return half in self.spec.reference and not isinstance(self.half(half), StatisticsFile)

    def _extract_references(self) -> None:
        extractors = [self.bench.extractor(use) for use in self.spec.suite.extractors.values()]
        for half, digest in self.spec.reference.items() if extractors else ():
            samples = self.half(half)
            advance = self.bench.progress(f"reference {half}", len(samples))
            unchanged = functools.partial(self._opened.require_unchanged, half)
            extract_reference(self.bench.artifacts, samples, digest, extractors, self.bench.batches, advance, unchanged)

    def _reference(self, features: str, half: Half) -> np.ndarray | Moments:
        info, output = self._feature(features)
        samples = self.half(half)
        if isinstance(samples, StatisticsFile):
            return samples.moments(info, output)
        return read_reference(self.bench.artifacts, self.spec.reference[half], info, output, self._maps)

    def _feature(self, features: str) -> tuple[ExtractorInfo, str]:
        """The extractor and the output that ``label/output`` means in this suite."""
        label, _, output = features.partition("/")
        return self.bench.extractor(self.spec.suite.extractors[label]).info, output

    def _moments(self, use: MetricUse, reference: np.ndarray | Moments) -> np.ndarray | Moments:
        """The reference's moments; few rows are cheaper as they are."""
        if isinstance(reference, Moments) or len(reference) < reference.shape[1]:
            return reference

        def find() -> dict[str, np.ndarray]:
            moments = Moments.of(reference)
            return {"mean": moments.mean.numpy(), "scatter": moments.scatter.numpy()}

        sums = self._found_once(use.features, use.against, "moments", find)
        return Moments.of_sums(len(reference), *(torch.from_numpy(sums[name]) for name in ("mean", "scatter")))

    def _radii(self, use: MetricUse, reference: np.ndarray) -> Radii:
        """The reference's nearest-neighbour balls."""
        k = use.options.get("k", use.spec.options["k"])

        def find() -> dict[str, np.ndarray]:
            radii = neighbour_radii(reference, k)
            return {"squared": radii.squared, "neighbours": radii.neighbours, "distances": radii.distances}

        return Radii(k, **self._found_once(use.features, use.against, f"balls-{k}", find))

    def _training(self, use: MetricUse, train: np.ndarray, heldout: np.ndarray | None) -> Training:
        """How far training samples are from one another, and which held-out ones are authentic."""

        def find() -> dict[str, np.ndarray]:
            training = training_spacing(train, heldout)
            return {"squared": training.squared, "authentic": training.authentic}

        name = "spacing" if heldout is None else f"spacing-{self._heldout}"
        return Training(**self._found_once(use.features, "train", name, find))

    def _embedded_prompts(self, use: MetricUse) -> np.ndarray:
        """One row a sample, of its prompt; computed once for each choice of prompts and each extractor."""
        suite, artifacts = self.spec.suite, self.bench.artifacts
        assert suite.prompts
        label, _, output = use.features.partition("/")
        extractor = self.bench.extractor(suite.extractors[label])
        assert isinstance(extractor, EmbedsTexts)
        every, taken = self.bench.prompts(suite), self.spec.indices(0, suite.samples)
        prompts = [every[i] for i in taken]
        facts = f"{extractor.info.protocol}-{extractor.info.backend}"
        key = f"prompts/{suite.prompts.sha256}/{facts}/{output}-{digest_json(taken.tolist())[:16]}.npy"
        if not artifacts.is_sound(key, len(prompts)):
            with artifacts.matrix_writer(key, len(prompts)) as writer:

                def embed(start: int, stop: int) -> np.ndarray:
                    return extractor.embed_texts(prompts[start:stop]).float().cpu().numpy()

                for block in self.bench.batches.over(0, len(prompts), embed):
                    writer.append(block)
        return artifacts.read_matrix(key, self._maps)

    def _reference_texts(self, half: Half) -> list[str]:
        documents = self.half(half)
        found = documents.read(0, len(documents))
        self._opened.require_unchanged(half)
        if not isinstance(found, Texts):
            raise InputError(f"reference {self.spec.suite.reference!r} holds no texts, with which texts are compared")
        return list(found.items)
