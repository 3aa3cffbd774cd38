"""Slices of an evaluation's scores: the items with one value of a label or tag."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int64

from evalsvc.core.errors import InputError
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.items import items_of, places_of
from evalsvc.evaluation.labelled_scores import LabelledScore
from evalsvc.evaluation.metric_inputs import Call, MetricInputs
from evalsvc.evaluation.sampling_units import SamplingUnits
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.slice_labels import slice_label, worst_label
from evalsvc.inputs.suite_checks import LABEL
from evalsvc.inputs.suite_entries import MetricUse, Split
from evalsvc.metrics.inputs import Source
from evalsvc.metrics.registry import GROUPS, Quantity
from evalsvc.metrics.score import MetricError, Score
from evalsvc.metrics.slices import MINIMUM, MOST, Rows, independent, of_all, rows_by_tag, worst
from evalsvc.metrics.units import Units
from evalsvc.plugins.interfaces import ExtractorInfo, HasLabels, SampleSet

Finish = Callable[[Score], Score]


def tags_of(context: EvaluationContext, spec: EvaluationSpec, by: str) -> list[str]:
    """The class label, or the value of a tag, of each sample's item."""
    items = items_of(context, spec.suite)
    assert items
    rows = places_of(context, spec, 0, spec.suite.samples)[0].tolist()
    if by == LABEL:
        assert items.labels is not None
        every: Sequence[str] = ["" if label < 0 else str(label) for label in items.labels.tolist()]
    else:
        every = items.tags[by]
    return [every[row] for row in rows]


def require_sliceable(
    context: EvaluationContext,
    spec: EvaluationSpec,
    extractors: Mapping[str, ExtractorInfo],
    split_of: Callable[[Split], SampleSet] | None,
) -> None:
    """Raise before any work if a score cannot be sliced as the suite says.

    Raises:
        InputError: there are too many slices, or they are too small for a metric.
    """
    for use in spec.suite.metrics:
        if not use.by:
            continue
        counts = {value: len(rows) for value, rows in rows_by_tag(tags_of(context, spec, use.by)).items()}
        what = f"suite {spec.suite.id}: {use.metric} by {use.by}"
        if len(counts) > MOST:
            raise InputError(f"{what} has {len(counts)} slices: use a tag with at most {MOST} values")
        label, _, output = use.features.partition("/")
        if not use.spec.full_rank or not use.features:
            continue
        width = extractors[label].outputs[output]
        each, reference = _equal(counts, _reference_counts(use, split_of))
        least = min([each, *reference])
        if each and least <= width:
            kind = "samples" if each <= width else "samples of the reference"
            raise InputError(
                f"{what} has slices of {least} {kind}, not more than the {width} dimensions of {use.features}: use "
                "kernel_distance, for which any number is enough, or more samples of each slice"
            )


def sliced(inputs: MetricInputs, use: MetricUse, call: Call, finish: Finish) -> Iterator[LabelledScore]:
    """Scores of all slices of a metric, and the worst of each quantity; slices below the minimum are left out."""
    tags = np.asarray(tags_of(inputs.context, inputs.spec, use.by), dtype=object)[inputs.rows]
    by_tag = rows_by_tag((tags if use.of else tags[inputs.there]).tolist())
    if len(by_tag) > MOST:
        raise InputError(f"{use.metric} by {use.by} has {len(by_tag)} slices: use a tag with at most {MOST} values")
    parts = _of_items(use, call, by_tag) if use.of else _of_sets(inputs, use, call, by_tag)
    found: dict[str, dict[str, Score]] = {}
    facts, units = dict[str, dict[str, Any]](), dict[str, SamplingUnits]()
    for value, part in parts:
        try:
            result = part.measured()
        except MetricError:  # it applies to no sample of the slice
            continue
        for score in [result] if isinstance(result, Score) else result.values():
            if independent(score) >= MINIMUM:
                found.setdefault(score.name, {})[value] = finish(score)
                facts[value], units[value] = part.facts, part.units
    quantities = {each.name: each for each in inputs.spec.suite.quantities_of(use)}
    for name, scores in found.items():
        whole = use.label_of(name)
        for value, score in scores.items():
            known = {**facts[value], "quantity": name, "slice": value}
            yield LabelledScore(slice_label(whole, use.by, value), score, known, units[value], slice_of=whole)
        yield from _worst(whole, use.by, scores, quantities[name], facts, units, len(by_tag) - len(scores))


def _worst(
    whole: str,
    by: str,
    scores: Mapping[str, Score],
    quantity: Quantity,
    facts: Mapping[str, dict[str, Any]],
    units: Mapping[str, SamplingUnits],
    too_small: int,
) -> Iterator[LabelledScore]:
    if (chosen := worst(scores, quantity)) is None:
        return
    value, score = chosen
    score = replace(score, details={**score.details, "too_small": float(too_small)})
    known = {**facts[value], "quantity": quantity.name, "worst": True}
    notes = {"slice": slice_label(whole, by, value)}
    yield LabelledScore(worst_label(whole), score, known, units[value], slice_of=whole, notes=notes)


@dataclass(frozen=True)
class _Part:
    measured: Callable[[], Any]
    facts: dict[str, Any]
    units: SamplingUnits


def _facts(use: MetricUse, call: Call, **more: Any) -> dict[str, Any]:
    return {**call.facts, "by": use.by, "minimum": MINIMUM, **more}


def _of_items(use: MetricUse, call: Call, by_tag: Mapping[str, Rows]) -> Iterator[tuple[str, _Part]]:
    """Aggregates of the items of each slice; their influences are of the units of all items."""
    metric, facts = use.spec, _facts(use, call)
    rows_of = {*metric.inputs} | ({GROUPS} if call.units.groups is not None else set())
    every = Units.of(sum(map(len, by_tag.values())), call.units.groups)

    def measured(rows: Rows) -> Score:
        taken = {name: call.arguments[name][rows] for name in rows_of}
        score: Score = metric.function(**{**call.arguments, **taken})
        return of_all(score, rows, every)

    for value, rows in by_tag.items():
        yield value, _Part(lambda rows=rows: measured(rows), facts, call.units)  # type: ignore[misc]


def _of_sets(
    inputs: MetricInputs, use: MetricUse, call: Call, by_tag: Mapping[str, Rows]
) -> Iterator[tuple[str, _Part]]:
    """Metrics of the samples of each slice, as many of each; by label, against the same number of that label's own."""
    metric = use.spec
    counts = {value: len(rows) for value, rows in by_tag.items()}
    real = {split: _labels(use, inputs.split(split)) for split in use.splits}
    reference = {split: rows for split, rows in real.items() if rows}
    each, of_reference = _equal(counts, [{v: len(r) for v, r in rows.items()} for rows in reference.values()])
    sizes = dict(zip(reference, of_reference, strict=True))
    facts = _facts(use, call, each=each, **{f"{split}_each": size for split, size in sizes.items()})
    found_of_reference = {one.argument for one in metric.precomputed} | set(metric.controls) if reference else set()

    def measured(value: str, rows: Rows) -> Any:
        arguments = {name: given for name, given in call.arguments.items() if name not in found_of_reference}
        for name, given in metric.inputs.items():
            if given.source is Source.REFERENCE:
                if reference:
                    split = use.half_of(given)
                    arguments[name] = _taken(inputs.raw(use, given), _some(reference[split][value], sizes[split]))
            else:
                arguments[name] = _taken(call.arguments[name], rows)
        if call.units.groups is not None and metric.counts_groups:
            arguments[GROUPS] = call.units.groups[rows]
        return inputs.placement.measure(metric, arguments)

    for value, every in by_tag.items():
        rows = every[:each]
        enough = len(every) >= MINIMUM and all(len(of.get(value, ())) >= MINIMUM for of in reference.values())
        if enough:
            yield (
                value,
                _Part(
                    lambda value=value, rows=rows: measured(value, rows),  # type: ignore[misc]
                    facts,
                    _units(call.units, rows),
                ),
            )


def _equal(counts: Mapping[str, int], reference: Sequence[Mapping[str, int]]) -> tuple[int, list[int]]:
    """Numbers of samples of each slice, generated and of each part of the reference, that all slices have."""
    kept = [
        value
        for value, count in counts.items()
        if count >= MINIMUM and all(of.get(value, 0) >= MINIMUM for of in reference)
    ]
    sizes = [min((of[value] for value in kept), default=0) for of in reference]
    return min((counts[value] for value in kept), default=0), sizes


def _reference_counts(use: MetricUse, split_of: Callable[[Split], SampleSet] | None) -> list[dict[str, int]]:
    every = [_labels(use, split_of(split)) for split in sorted(use.splits)] if split_of else []
    return [{value: len(rows) for value, rows in each.items()} for each in every if each]


def _labels(use: MetricUse, samples: SampleSet) -> dict[str, Rows]:
    """The rows of a split of the reference with each label, where slices are by label and it has any."""
    if use.by != LABEL or not isinstance(samples, HasLabels):
        return {}
    rows = rows_by_tag([str(label) for label in samples.labels.tolist()])
    return {label: each for label, each in rows.items() if label != "-1"}


def _some(rows: Rows, count: int) -> Rows:
    """So many of the rows, chosen at random, always the same."""
    return np.sort(np.random.default_rng(count).permutation(rows)[:count])


def _taken(given: Any, rows: Int64[np.ndarray, " k"]) -> Any:
    return [given[row] for row in rows.tolist()] if isinstance(given, list) else given[rows]


def _units(units: SamplingUnits, rows: Rows) -> SamplingUnits:
    digest = hashlib.sha256(np.ascontiguousarray(rows, np.int64).tobytes()).hexdigest()[:16]
    return SamplingUnits(f"{units.name}/{digest}", None if units.groups is None else units.groups[rows])
