"""What the metrics of an evaluation are given: arrays, mapped and not loaded, and what is found once of a reference."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.core.files.verification import Verified
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.sampling_units import SamplingUnits, documents
from evalsvc.evaluation.shard_reading import read_features, read_likelihoods, read_texts
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.evaluation.suite_prompts import prompts_of
from evalsvc.inputs.published_statistics import StatisticsFile
from evalsvc.inputs.references import OpenReference, array_key, extract_reference, key_beside, read_reference
from evalsvc.inputs.suites import MetricUse, Split
from evalsvc.metrics.inputs import Form, Input, Source
from evalsvc.metrics.moments import Moments
from evalsvc.metrics.neighbors import nearest_neighbors
from evalsvc.metrics.precomputed import Precomputed
from evalsvc.metrics.registry import GROUPS
from evalsvc.plugins.interfaces import EmbedsTexts, ExtractorInfo, SampleSet
from evalsvc.plugins.samples import Texts


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

    def __init__(self, spec: EvaluationSpec, context: EvaluationContext, rows: slice = slice(None)) -> None:
        self.spec, self.context, self.rows = spec, context, rows
        self._maps: list[Verified] = []
        self._extract_references()
        self.generated = {name: array[rows] for name, array in read_features(spec, context, self._maps).items()}
        self.reference = functools.cache(self._reference)
        self._likelihoods = functools.cache(functools.partial(read_likelihoods, spec, context))
        self.units = SamplingUnits.of(spec, prompts_of(context, spec.suite)).part(rows)

    def call(self, use: MetricUse) -> Call:
        """What a metric of the suite is to be called with."""
        spec, metric = self.spec, use.spec
        facts: dict[str, Any] = {"metric": use.metric, "version": metric.version, "options": use.options}
        controls = {name: each for name, each in metric.controls.items() if use.half_of(each) in spec.reference}
        given, inputs = {**metric.inputs, **controls}, dict[str, Any]()
        for name, each in given.items():
            inputs[name], said = self._given[each.source, each.form](use, each)
            facts |= said
        facts |= {name: spec.reference[split] for name, split in use.reference_facts.items() if split in spec.reference}
        if "samples" in facts and spec.order and spec.order.is_partial(spec.suite.samples):
            facts["order"] = spec.order.facts
        if "tokenizer" in metric.options:
            facts["tokenizer"] = use.tokenizer
        options = {**metric.options, **use.options}
        found = {
            each.argument: self._precomputed(use, each, inputs, options)
            for each in metric.precomputed
            if each.is_worthwhile(inputs)
        }
        units = documents(spec, use.against) if use.of_documents else self.units
        groups = {GROUPS: units.groups} if metric.counts_groups and not use.of_documents else {}
        return Call({**inputs, **found, **groups, **use.arguments}, facts, units)

    @functools.cached_property
    def _given(self) -> Mapping[tuple[Source, Form], Callable[[MetricUse, Input], tuple[Any, dict[str, Any]]]]:
        """What an input is, and what a score's facts say of it beside the reference, for each source that there is."""
        return {
            (Source.SAMPLES, Form.MATRIX): self._features_of_samples,
            (Source.SAMPLES, Form.TEXTS): self._texts,
            (Source.REFERENCE, Form.MATRIX): self._features_of_reference,
            (Source.REFERENCE, Form.TEXTS): self._texts_of_reference,
            (Source.PROMPTS, Form.MATRIX): self._prompts,
            (Source.LIKELIHOOD, Form.NUMBERS): self._likelihood,
        }

    def _features_of_samples(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        info, output = self._feature(use.features)
        facts = {"features": f"{info.protocol}/{output}", "samples": self.spec.suite.samples}
        return self.generated[use.features], facts

    def _texts(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        return read_texts(self.spec, self.context)[self.rows], {"samples": self.spec.suite.samples}

    def _features_of_reference(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        return self.reference(use.features, use.half_of(given)), {}

    def _texts_of_reference(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        return self._reference_texts(use.half_of(given)), {}

    def _prompts(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        assert self.spec.suite.prompts
        return self._embedded_prompts(use)[self.rows], {"prompts": self.spec.suite.prompts.sha256}

    def _likelihood(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        """A column of an extractor that scores samples, or of the generator's likelihoods of a half's documents."""
        suite = self.spec.suite
        if use.features:
            protocol = opening.extractor(self.context, suite.extractors[use.features]).info.protocol
            facts = {"features": protocol, "samples": suite.samples, "kind": "exact"}
            return self.generated[f"{use.features}/{given.name}"][:, 0], facts
        likelihoods = self._likelihoods(use.against)
        return likelihoods.column(given.name), likelihoods.facts_for(use.spec.inputs)

    def array(self, features: str, split: Split) -> np.ndarray:
        """The features of a half that has samples."""
        reference = self.reference(features, split)
        assert isinstance(reference, np.ndarray)
        return reference

    def heldout_distances(self, features: str) -> dict[str, np.ndarray]:
        """How far held-out samples, if there are any, are from the nearest training sample, as ``heldout``."""
        if "heldout" not in self.spec.reference:
            return {}

        def find() -> dict[str, np.ndarray]:
            train, heldout = self.array(features, "train"), self.array(features, "heldout")
            return {"heldout": nearest_neighbors(heldout, train).distances[:, 0]}

        return self._found_once(features, "train", f"nearest-{self.spec.reference['heldout'][:16]}", find)

    def _found_once(
        self, features: str, split: Split, name: str, find: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Arrays found from a half's own array, which are kept beside it."""
        artifacts = self.context.artifacts
        key = key_beside(array_key(self.spec.reference[split], *self._feature(features)), name)
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

    def split(self, split: Split) -> SampleSet:
        """The real samples of a half."""
        return self._opened.split(split)

    @property
    def _opened(self) -> OpenReference:
        return opening.reference_of(self.context, self.spec)

    def has_samples(self, split: Split) -> bool:
        """Whether there is such a half, and more of it than published statistics."""
        return split in self.spec.reference and not isinstance(self.split(split), StatisticsFile)

    def _extract_references(self) -> None:
        extractors = [opening.extractor(self.context, use) for use in self.spec.suite.extractors.values()]
        for split, digest in self.spec.reference.items() if extractors else ():
            samples = self.split(split)
            advance = self.context.progress(f"reference {split}", len(samples))
            unchanged = functools.partial(self._opened.require_unchanged, split)
            extract_reference(
                self.context.artifacts, samples, digest, extractors, self.context.batches, advance, unchanged
            )

    def _reference(self, features: str, split: Split) -> np.ndarray | Moments:
        info, output = self._feature(features)
        samples = self.split(split)
        if isinstance(samples, StatisticsFile):
            return samples.moments(info, output)
        return read_reference(self.context.artifacts, self.spec.reference[split], info, output, self._maps)

    def _feature(self, features: str) -> tuple[ExtractorInfo, str]:
        """The extractor and the output that ``label/output`` means in this suite."""
        label, _, output = features.partition("/")
        return opening.extractor(self.context, self.spec.suite.extractors[label]).info, output

    def _precomputed(
        self, use: MetricUse, each: Precomputed, inputs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Any:
        """What a metric needs of the reference whatever is generated, found once and kept beside it."""
        known = {**use.spec.inputs, **use.spec.controls}
        first, *others = (use.half_of(known[name]) for name in each.of if name in inputs)
        key = "-".join([each.key(options), *(self.spec.reference[split][:16] for split in others)])
        arrays = self._found_once(use.features, first, key, lambda: each.find(inputs, options))
        return each.restore(arrays, inputs, options)

    def _embedded_prompts(self, use: MetricUse) -> np.ndarray:
        """One row a sample, of its prompt; computed once for each choice of prompts and each extractor."""
        suite, artifacts = self.spec.suite, self.context.artifacts
        assert suite.prompts
        label, _, output = use.features.partition("/")
        extractor = opening.extractor(self.context, suite.extractors[label])
        assert isinstance(extractor, EmbedsTexts)
        every, taken = prompts_of(self.context, suite), self.spec.indices(0, suite.samples)
        prompts = [every[i] for i in taken]
        facts = f"{extractor.info.protocol}-{extractor.info.backend}"
        key = f"prompts/{suite.prompts.sha256}/{facts}/{output}-{digest_json(taken.tolist())[:16]}.npy"
        if not artifacts.is_sound(key, len(prompts)):
            with artifacts.matrix_writer(key, len(prompts)) as writer:

                def embed(start: int, stop: int) -> np.ndarray:
                    return extractor.embed_texts(prompts[start:stop]).float().cpu().numpy()

                for block in self.context.batches.over(0, len(prompts), embed):
                    writer.append(block)
        return artifacts.read_matrix(key, self._maps)

    def _reference_texts(self, split: Split) -> list[str]:
        documents = self.split(split)
        found = documents.read(0, len(documents))
        self._opened.require_unchanged(split)
        if not isinstance(found, Texts):
            raise InputError(f"reference {self.spec.suite.reference!r} holds no texts, with which texts are compared")
        return list(found.items)
