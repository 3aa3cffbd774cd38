"""Inputs of an evaluation's metrics: memory-mapped arrays, and values precomputed from the reference."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalsvc.core.errors import InputError
from evalsvc.core.files.verification import Verified
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.factorization_choice import choose_factorizations
from evalsvc.evaluation.fitting_tokenizer import fitting_tokenizer
from evalsvc.evaluation.items import places_of, units_of
from evalsvc.evaluation.placement import Placement
from evalsvc.evaluation.prompt_embeddings import embedded_prompts
from evalsvc.evaluation.sample_states import read_states
from evalsvc.evaluation.sampling_units import SamplingUnits, documents
from evalsvc.evaluation.shard_reading import read_failures, read_features, read_likelihoods, read_scored, read_texts
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.published_statistics import StatisticsFile
from evalsvc.inputs.reference_arrays import array_key, extract_reference, key_beside, read_reference
from evalsvc.inputs.references import OpenReference
from evalsvc.inputs.suite_entries import MetricUse, Split
from evalsvc.metrics.inputs import Form, Input, Source
from evalsvc.metrics.moments import Moments
from evalsvc.metrics.neighbors import nearest_neighbors
from evalsvc.metrics.precomputed import Precomputed
from evalsvc.metrics.registry import GROUPS, QUANTITY
from evalsvc.metrics.tokenizers import TOKENIZERS
from evalsvc.plugins.interfaces import ExtractorInfo, SampleSet
from evalsvc.plugins.samples import Texts
from evalsvc.plugins.scoring import FAILED


@dataclass(frozen=True)
class Call:
    """Arguments of a metric, the facts that make its scores comparable, its independent units, and given options."""

    arguments: dict[str, Any]
    facts: dict[str, Any]
    units: SamplingUnits
    options: dict[str, Any]


class MetricInputs:
    """Metric inputs of an evaluation whose shards are on disk; missing features of references are extracted.

    ``rows`` are the samples to measure, by default all.
    """

    def __init__(self, spec: EvaluationSpec, context: EvaluationContext, rows: slice = slice(None)) -> None:
        self.spec, self.context, self.rows = spec, context, rows
        self._maps: list[Verified] = []
        self._extract_references()
        self.failures = read_failures(spec, context)
        self.there = np.array([row not in self.failures for row in range(spec.suite.samples)])[rows]
        """Which of the samples could be drawn; metrics of sets leave the others out."""
        self.generated = {name: array[rows] for name, array in read_features(spec, context, self._maps).items()}
        self.reference = functools.cache(self._reference)
        self._likelihoods = functools.cache(functools.partial(read_likelihoods, spec, context))
        self.scored = functools.cache(functools.partial(read_scored, spec, context))
        self._states = functools.cache(lambda label: read_states(spec, context, label, self.scored(label)))
        self.texts = functools.cache(self._drawn_texts)
        self._drawn = functools.cache(lambda name: self._without_failures(self.generated[name]))
        self._embedded = functools.cache(self._embedded_prompts)
        self.units = units_of(context, spec).part(rows)
        self.placement = Placement(context.device)
        if self.placement.is_active:
            choose_factorizations(context)

    def call(self, use: MetricUse) -> Call:
        """Arguments for a metric of the suite."""
        spec, metric = self.spec, use.spec
        facts: dict[str, Any] = {"metric": use.metric, "version": metric.version, "options": use.options}
        controls = {name: each for name, each in metric.controls.items() if use.half_of(each) in spec.reference}
        given, inputs = {**metric.inputs, **controls}, dict[str, Any]()
        for name, each in given.items():
            inputs[name], said = self._given[each.source, each.form](use, each)
            facts |= said
        facts |= {name: spec.reference[split] for name, split in use.reference_facts.items() if split in spec.reference}
        if "samples" in facts and spec.suite.items:
            facts |= spec.suite.items.drawn
        if "samples" in facts and spec.order and spec.order.is_partial(spec.suite.samples):
            facts["order"] = spec.order.facts
        settings = use.options
        if "tokenizer" in metric.options:
            facts["tokenizer"] = use.tokenizer or fitting_tokenizer(map(self.split, spec.reference), self.texts)
            settings = {**settings, "tokenizer": TOKENIZERS[facts["tokenizer"]]}
        options = {**metric.options, **use.options}
        found_once = [each for each in metric.precomputed if each.is_worthwhile(inputs)]
        values = {each.argument: self._precomputed(use, each, inputs, options) for each in found_once}
        units = self._units_of(use)
        of = {QUANTITY: spec.suite.scored(use.of)} if metric.takes_quantity else {}
        groups = {GROUPS: units.groups} if metric.counts_groups and not use.of_documents else {}
        return Call({**inputs, **values, **of, **groups, **settings}, facts, units, settings)

    @functools.cached_property
    def _given(self) -> Mapping[tuple[Source, Form], Callable[[MetricUse, Input], tuple[Any, dict[str, Any]]]]:
        """For each source: the value of an input, and its facts for scores besides the reference."""
        return {
            (Source.SAMPLES, Form.MATRIX): self._features_of_samples,
            (Source.SAMPLES, Form.TEXTS): self._texts,
            (Source.REFERENCE, Form.MATRIX): self._features_of_reference,
            (Source.REFERENCE, Form.TEXTS): self._texts_of_reference,
            (Source.PROMPTS, Form.MATRIX): self._prompts,
            (Source.LIKELIHOOD, Form.NUMBERS): self._likelihood,
            **{(Source.SCORER, form): self._of_scorer for form in (Form.NUMBERS, Form.MATRIX, Form.STATES)},
            (Source.ITEMS, Form.NUMBERS): self._items,
        }

    def _units_of(self, use: MetricUse) -> SamplingUnits:
        if use.of_documents:
            return documents(self.spec, use.against)
        return self.units if use.of else self.units.only(self.there)

    def _without_failures(self, array: np.ndarray) -> np.ndarray:
        return array if self.there.all() else array[self.there]

    def _of_scorer(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        """A scorer's values, NaN where there is none; their sums or states; or which samples failed."""
        suite, (label, _, _) = self.spec.suite, use.of.partition("/")
        quantity, scored = suite.scored(use.of), self.scored(label)
        facts: dict[str, Any] = {"scorer": self.spec.scorers[label], "samples": suite.samples}
        if suite.items:
            facts |= {"scored": suite.items.scored}
        elif suite.prompts:
            facts |= {"prompts": suite.prompts.sha256}
        if given.name == "failures":
            return (scored.outcomes[self.rows] == FAILED).astype(np.float64), facts
        if given.name == "sums":
            return np.stack([scored.values[name] for name in quantity.sums], axis=1)[self.rows], facts
        column: Any = self._states(label) if given.name == "states" else scored.values[quantity.name]
        return column[self.rows], facts | {"of": quantity.name}

    def _items(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        """The item of each sample that the metric is given."""
        rows, _ = places_of(self.context, self.spec, 0, self.spec.suite.samples)
        return rows[self.rows] if use.of else self._without_failures(rows[self.rows]), {}

    def _features_of_samples(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        info, output = self._feature(use.features)
        facts = {"features": f"{info.protocol}/{output}", "samples": self.spec.suite.samples}
        return self._drawn(use.features), facts

    def _texts(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        return self.texts(), {"samples": self.spec.suite.samples}

    def _features_of_reference(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        return self.reference(use.features, use.half_of(given)), {}

    def _texts_of_reference(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        return self.texts_of(use.half_of(given)), {}

    def _prompts(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        suite = self.spec.suite
        known = suite.prompts.sha256 if suite.prompts else suite.items and suite.items.conditions
        return self._embedded(use.features), {"prompts": known}

    def _embedded_prompts(self, features: str) -> np.ndarray:
        return self._without_failures(embedded_prompts(self.spec, self.context, features, self._maps)[self.rows])

    def _likelihood(self, use: MetricUse, given: Input) -> tuple[Any, dict[str, Any]]:
        """A column of an extractor that scores samples, or of the generator's likelihoods of a split's documents."""
        suite = self.spec.suite
        if use.features:
            protocol = opening.extractor(self.context, suite.extractors[use.features]).info.protocol
            facts = {"features": protocol, "samples": suite.samples, "kind": "exact"}
            return self._drawn(f"{use.features}/{given.name}")[:, 0], facts
        likelihoods = self._likelihoods(use.against)
        return likelihoods.column(given.name), likelihoods.facts_for(use.spec.inputs)

    def _drawn_texts(self) -> list[str]:
        """The samples of a suite of texts, those that could be drawn."""
        texts = read_texts(self.spec, self.context)[self.rows]
        return [text for text, there in zip(texts, self.there, strict=True) if there]

    def raw(self, use: MetricUse, given: Input) -> Any:
        """An input of the reference, without values precomputed from it."""
        return self._given[given.source, given.form](use, given)[0]

    def array(self, features: str, split: Split) -> np.ndarray:
        """The features of a split that has samples."""
        reference = self.reference(features, split)
        assert isinstance(reference, np.ndarray)
        return reference

    def heldout_distances(self, features: str) -> dict[str, np.ndarray]:
        """Distances of held-out samples, if there are any, to their nearest training samples, as ``heldout``."""
        if "heldout" not in self.spec.reference:
            return {}

        def find() -> dict[str, np.ndarray]:
            train, heldout = self.array(features, "train"), self.array(features, "heldout")
            sets = {"generated": heldout, "train": train}
            found = self.placement.run(lambda place: nearest_neighbors(**place(sets)))
            return {"heldout": found.distances[:, 0]}

        return self.found_once(features, "train", f"nearest-{self.spec.reference['heldout'][:16]}", find)

    def found_once(
        self, features: str, split: Split, name: str, find: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Arrays computed from those of a split, stored beside the array of these features.

        Those found on a device are stored apart: their last digits are not those of the host.
        """
        artifacts = self.context.artifacts
        name = f"{name}-{self.placement.device.type}" if self.placement.is_active else name
        key = key_beside(array_key(self.spec.reference[split], *self._feature(features)), name)
        if not artifacts.is_sound(key):
            arrays = find()
            self.require_unchanged()
            artifacts.write_arrays(key, arrays)
        return artifacts.read_arrays(key)

    def require_unchanged(self) -> None:
        """Raise if a mapped array was modified since it was verified.

        Raises:
            DamagedError: a file was modified.
        """
        for each in self._maps:
            each.require_unchanged()

    def split(self, split: Split) -> SampleSet:
        """The real samples of a split."""
        return self._opened.split(split)

    @property
    def _opened(self) -> OpenReference:
        return opening.reference_of(self.context, self.spec)

    def has_samples(self, split: Split) -> bool:
        """Whether the split exists and has samples, not only published statistics."""
        return split in self.spec.reference and not isinstance(self.split(split), StatisticsFile)

    def _extract_references(self) -> None:
        extractors = [opening.extractor(self.context, use) for use in self.spec.suite.extractors.values()]
        for split, digest in self.spec.reference.items() if extractors else ():
            samples = self.split(split)
            advance = self.context.progress(f"reference {split}", len(samples))
            unchanged = functools.partial(self._opened.require_unchanged, split)
            extract_reference(
                self.context.artifacts,
                samples,
                digest,
                extractors,
                self.context.batches_of(samples.modality),
                advance,
                unchanged,
            )

    def _reference(self, features: str, split: Split) -> np.ndarray | Moments:
        info, output = self._feature(features)
        samples = self.split(split)
        if isinstance(samples, StatisticsFile):
            return samples.moments(info, output)
        return read_reference(self.context.artifacts, self.spec.reference[split], info, output, self._maps)

    def _feature(self, features: str) -> tuple[ExtractorInfo, str]:
        """The extractor and the output for ``label/output`` in this suite."""
        label, _, output = features.partition("/")
        return opening.extractor(self.context, self.spec.suite.extractors[label]).info, output

    def _precomputed(
        self, use: MetricUse, each: Precomputed, inputs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Any:
        """Values that a metric computes from the reference only, stored beside it."""
        known = {**use.spec.inputs, **use.spec.controls}
        first, *others = (use.half_of(known[name]) for name in each.of if name in inputs)
        key = "-".join([each.key(options), *(self.spec.reference[split][:16] for split in others)])
        arrays = self.found_once(
            use.features,
            first,
            key,
            lambda: self.placement.compute(use.spec, inputs, lambda given: each.find(given, options)),
        )
        return each.restore(arrays, inputs, options)

    def texts_of(self, split: Split) -> list[str]:
        """All texts of a split of the reference, which raises :class:`InputError` unless it holds texts."""
        documents = self.split(split)
        texts = documents.read(0, len(documents))
        self._opened.require_unchanged(split)
        if not isinstance(texts, Texts):
            raise InputError(
                f"reference {self.spec.suite.reference!r} contains no texts, but the metric compares texts: use a "
                "reference of texts"
            )
        return list(texts.items)
