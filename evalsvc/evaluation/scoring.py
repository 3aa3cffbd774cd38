"""Scoring: from the shards of an evaluation to its scores, gallery and influences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from evalsvc.evaluation.compatibility import require_content
from evalsvc.evaluation.context import Advance, EvaluationContext, silent
from evalsvc.evaluation.engines import engines_of
from evalsvc.evaluation.gallery import THUMBNAILS, joined, of_reference, pictures_of
from evalsvc.evaluation.influences import KIND as INFLUENCES
from evalsvc.evaluation.influences import UnitInfluence, write_influences
from evalsvc.evaluation.item_values import KIND as ITEMS
from evalsvc.evaluation.item_values import write_item_values
from evalsvc.evaluation.labelled_scores import LabelledScore as LabelledScore
from evalsvc.evaluation.metric_inputs import Call, MetricInputs
from evalsvc.evaluation.placement import Place
from evalsvc.evaluation.right_values import NO_RIGHT_VALUE, right_values, with_right_value
from evalsvc.evaluation.shard_reading import read_shard, repaired
from evalsvc.evaluation.slicing import sliced
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.evaluation.worst_samples import KIND as WORST
from evalsvc.evaluation.worst_samples import keep_worst
from evalsvc.inputs.reference_arrays import FOLDER
from evalsvc.inputs.sample_order import ORDER_VERSION
from evalsvc.inputs.suite_entries import MetricUse
from evalsvc.metrics import pairs
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.neighbors import Neighbors, nearest_neighbors
from evalsvc.metrics.score import Score

NEIGHBOURS = 3
"""Number of training neighbors kept for each sample."""
WIDE = 10_000
"""Numbers in the influence of a reference's rows that a slice keeps at most: a suite may have a hundred slices."""
SILENT = "none: this metric does not say what its reference adds"


@dataclass(frozen=True)
class Reduction:
    """Results of an evaluation: scores, metrics that did not apply with the reason, and files by kind."""

    scores: tuple[LabelledScore, ...]
    not_applicable: Mapping[str, str]
    files: Mapping[str, str]
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Number of samples by scorer and outcome."""


def reduce(spec: EvaluationSpec, context: EvaluationContext) -> Reduction:
    """All scores of an evaluation whose shards are on disk. Metrics read the shards in order through memory maps.

    Damaged shards are computed again.
    """
    require_content(context, spec)
    return repaired(lambda: _reduce(spec, context))


@contextmanager
def _inputs(spec: EvaluationSpec, context: EvaluationContext, rows: slice = slice(None)) -> Iterator[MetricInputs]:
    """Metric inputs, whose matrices leave the device at the end."""
    inputs = MetricInputs(spec, context, rows)
    try:
        yield inputs
    finally:
        inputs.placement.release()


def _reduce(spec: EvaluationSpec, context: EvaluationContext) -> Reduction:
    uses: list[MetricUse] = []
    not_applicable: dict[str, str] = {}
    for use in spec.suite.uses:
        if use.of_documents and not spec.likelihood:
            reason = f"generator {spec.generator!r} provides no likelihood"
            not_applicable |= {use.label_of(quantity.name): reason for quantity in spec.suite.quantities_of(use)}
        else:
            uses.append(use)
    with _inputs(spec, context) as inputs:
        neighbors, scores = _measure(inputs, uses, context.progress("metrics", len(uses)))
        outcomes = {label: inputs.scored(label).counts for label in spec.suite.scorers}
        return Reduction(scores, not_applicable, _keep(inputs, neighbors, scores), outcomes)


def scores_of_rows(spec: EvaluationSpec, context: EvaluationContext, rows: slice) -> tuple[LabelledScore, ...]:
    """Scores of a subset of an evaluation's samples, whose shards are on disk; nothing is stored."""

    def measure() -> tuple[LabelledScore, ...]:
        with _inputs(spec, context, rows) as inputs:
            return _measure(inputs, spec.suite.uses, silent("metrics", 0))[1]

    return repaired(measure)


def _measure(
    inputs: MetricInputs, uses: Sequence[MetricUse], advance: Advance
) -> tuple[Neighbors | None, tuple[LabelledScore, ...]]:
    """Neighbors for the gallery, and all scores; metrics over all pairs of the same two sets share one pass."""
    calls = {place: inputs.call(use) for place, use in enumerate(uses) if use.spec.plan}
    search = _search(inputs)

    def over_pairs(place: Place) -> list[Any]:
        plans = [use.spec.plan(**place(calls[i].arguments)) for i, use in enumerate(uses) if use.spec.plan]
        return pairs.measure([*plans, *([nearest_neighbors.plan(**place(search), k=NEIGHBOURS)] if search else [])])

    results = inputs.placement.run(over_pairs)
    advance(len(calls))
    by_plan = dict(zip(calls, results, strict=False))
    scores = []
    for place, use in enumerate(uses):
        if place in calls:
            call, result = calls[place], by_plan[place]
        else:
            call = inputs.call(use)
            result = inputs.placement.measure(use.spec, call.arguments)
            advance(1)

        engines = engines_of(inputs.spec, inputs.context, use)

        def finish(score: Score, use: MetricUse = use, call: Call = call, engines: list[str] = engines) -> Score:
            unsure = call.units.groups is not None and not use.spec.counts_groups
            told = _mixed(_without_failed(_unsure(score) if unsure else score, use, inputs.there), engines)
            return _unsure_of_reference(told) if use.splits and not use.of_documents else told

        right, reason = right_values(inputs, use, call)
        notes = {NO_RIGHT_VALUE: reason} if reason else {}
        for score in [result] if isinstance(result, Score) else result.values():
            facts = {**call.facts, "quantity": score.name}
            whole = with_right_value(finish(score), right)
            scores.append(LabelledScore(use.label_of(score.name), whole, facts, call.units, notes=notes))
        if use.by:
            scores += sliced(inputs, use, call, finish)
    inputs.require_unchanged()
    return results[-1] if search else None, tuple(scores)


def _search(inputs: MetricInputs) -> dict[str, np.ndarray]:
    """The sets of the search for the nearest training samples, if the suite shows them and training samples exist."""
    features = inputs.spec.suite.neighbours
    if not features or not inputs.has_samples("train"):
        return {}
    return {"generated": inputs.generated[features], "train": inputs.array(features, "train")}


def _unsure(score: Score) -> Score:
    """A score without standard error, because its metric assumes independence of samples that share prompts."""
    reason = "none: prompts are used repeatedly, and this metric counts no groups"
    none: dict[str, Any] = {"stderr": None, "ci_low": None, "ci_high": None, "skewness": 0.0}
    return replace(score, **none, stderr_method=reason, influence=reason)


def _unsure_of_reference(score: Score) -> Score:
    """A score against a reference, without the error of the reference if its metric does not know it."""
    if score.reference_method or score.reference:
        return score
    return replace(score, stderr_reference=None, reference_method=SILENT)


def _mixed(score: Score, engines: list[str]) -> Score:
    """A score that says so if engines of several kinds made what it is computed from."""
    if len(engines) < 2:
        return score
    return replace(score, stderr_method=f"{score.stderr_method}; computed by {' and '.join(engines)}")


def _without_failed(score: Score, use: MetricUse, there: Bool[np.ndarray, " n"]) -> Score:
    """A score with the number of samples that it leaves out because they could not be drawn."""
    if use.of or use.of_documents or there.all():
        return score
    return replace(score, details={**score.details, "failed": float((~there).sum())})


def _keep(inputs: MetricInputs, neighbors: Neighbors | None, scores: Sequence[LabelledScore]) -> dict[str, str]:
    """Write the files for pages: first samples, nearest training neighbors, influences; return their keys by kind."""
    spec, artifacts = inputs.spec, inputs.context.artifacts
    folder, whole = f"evaluations/{spec.fingerprint[:32]}", spec.suite.gallery
    shards = [shard for shard in spec.shards_of("samples") if shard.start < max(whole, THUMBNAILS)]
    # Shards of older versions do not store the indices of their samples: these are consecutive.
    arrays = [
        {"indices": np.arange(shard.start, shard.stop)} | read_shard(spec, shard, inputs.context) for shard in shards
    ]
    kept = joined(arrays, whole)
    if inputs.has_samples("train"):
        _keep_real(inputs, whole)
    if neighbors is not None:
        kept["neighbours"] = _pictured(inputs, neighbors)
    files = {kind: f"{folder}/{kind}.safetensors" for kind in kept}
    for kind, key in files.items():
        artifacts.write_arrays(key, kept[kind])
    if spec.suite.scorers:
        files |= _keep_items(inputs, folder)
    files[INFLUENCES] = f"{folder}/{INFLUENCES}.safetensors"
    influences = {
        each.label: UnitInfluence(each.score.influence, each.units.name, _of_reference(each)) for each in scores
    }
    write_influences(artifacts, files[INFLUENCES], influences)
    return files


def _of_reference(each: LabelledScore) -> Influence | str:
    """The influence of the reference's rows; of slices, which may be many, only if it is short."""
    found = each.score.reference
    wide = isinstance(found, Influence) and sum(map(len, found.parts.values())) > WIDE
    return "" if each.slice_of and wide else found


def _keep_items(inputs: MetricInputs, folder: str) -> dict[str, str]:
    """Write the values of all samples, and the worst samples that were not kept."""
    scored = {label: inputs.scored(label) for label in inputs.spec.scorers}
    items, worst = (f"{folder}/{kind}.safetensors" for kind in (ITEMS, WORST))
    more = {WORST: worst} if keep_worst(inputs.spec, inputs.context, worst, scored) else {}
    write_item_values(inputs.spec, inputs.context, items, scored, more)
    return {ITEMS: items, **more}


def _keep_real(inputs: MetricInputs, whole: int) -> None:
    """Write real samples for the gallery, as many as the largest request of a suite on this reference."""
    artifacts, folder = inputs.context.artifacts, f"{FOLDER}/{inputs.spec.reference['train']}"
    gallery, small = (f"{folder}/{kind}.safetensors" for kind in ("gallery", "thumbnails"))
    damaged = artifacts.exists(small) and not artifacts.is_sound(small)
    there = artifacts.read_metadata(gallery) if artifacts.is_sound(gallery) else {}
    # Older versions kept the first samples without an order.
    asked, is_old = int(there.get("asked", 0)), there.get("order") != str(ORDER_VERSION)
    if whole > asked or (whole and (is_old or damaged)):
        noted = {"asked": str(max(whole, asked)), "order": str(ORDER_VERSION)}
        # The gallery is written last, so that its existence implies that of the other files.
        for kind, arrays in reversed(of_reference(inputs.split("train"), max(whole, asked)).items()):
            artifacts.write_arrays(f"{folder}/{kind}.safetensors", arrays, noted)


def _pictured(inputs: MetricInputs, neighbors: Neighbors) -> dict[str, np.ndarray]:
    """Neighbors of the gallery's samples with pictures, and distances of held-out samples as the control."""
    spec, features = inputs.spec, inputs.spec.suite.neighbours
    arrays = {"distances": neighbors.distances, "indices": neighbors.indices}
    pictures = pictures_of(inputs.split("train"), neighbors.indices[: spec.suite.gallery])
    if pictures is not None:
        arrays["pictures"] = pictures
    return arrays | inputs.heldout_distances(features)
