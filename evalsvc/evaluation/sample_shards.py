"""Shards of samples: drawn, extracted and scored in one pass, or scored again from the samples that are kept."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from evalsvc.evaluation import opening
from evalsvc.evaluation.context import Advance, EvaluationContext
from evalsvc.evaluation.feature_blocks import FeatureBlocks
from evalsvc.evaluation.gallery import GalleryCollector
from evalsvc.evaluation.item_values import arrays_of, missing_values, values_key
from evalsvc.evaluation.items import item_batch, request_of, sources_of
from evalsvc.evaluation.kept_samples import (
    DrawnRows,
    Identity,
    Kept,
    digests_of,
    kept_key,
    share_of,
    usage_of,
)
from evalsvc.evaluation.likelihood_scoring import score_by_likelihood
from evalsvc.evaluation.shards import Shard
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.evaluation.stored_shards import NOTHING, identities, identity_of, is_by_likelihood, kept_whole
from evalsvc.inputs.items.answers import answers_of
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins import scoring, validation
from evalsvc.plugins.deferred_checks import deferred
from evalsvc.plugins.interfaces import ReadsAhead
from evalsvc.plugins.items import Drawn, Usage
from evalsvc.plugins.samples import Texts, on_host
from evalsvc.plugins.scorers import ScoresLikelihoods
from evalsvc.plugins.scoring import Values

if TYPE_CHECKING:
    from torch import Tensor

Draw = Callable[[int, int], Drawn]
"""Draws samples from one to another of an evaluation, with known usage."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class File:
    """A file to write: its key, arrays and metadata."""

    key: str
    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]


class OtherSamplesError(Exception):
    """The generator did not draw the same samples again."""


def sample_files(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, advance: Advance, *, rerun: bool
) -> list[File]:
    """The files of a shard that are missing, in the order in which they are written; none if it is complete.

    On a ``rerun`` all of them are computed. Samples that are there are not drawn again for a new scorer if they were
    kept; otherwise they are drawn again, and their digests compared.
    """
    there = None if rerun else identity_of(spec, shard, context)
    if there is not None:
        due = missing_values(context, spec, shard, identities(context, spec, there))
        if not due:
            advance(shard.stop - shard.start)
            return []
        try:
            return _score_again(spec, shard, context, advance, due, there)
        except OtherSamplesError:
            log.warning("shard %s: the generator draws other samples than before", spec.shard_key(shard))
    kept = None if rerun or there is not None or not spec.keeps_samples else kept_whole(spec, shard, context)
    return _compute(spec, shard, context, advance, kept)


def _compute(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, advance: Advance, kept: Kept | None
) -> list[File]:
    """Draw, extract and score a shard, batch by batch."""
    taken = DrawnRows(share_of(context.kept_bytes, spec, shard) if spec.keeps_samples else None)
    arrays: dict[str, np.ndarray] = {}
    parts: list[dict[str, Values]] = []
    if spec.draws:
        draw = _from_generator(spec, shard, context) if kept is None else _from_kept(kept, shard)
        arrays, parts = _pass(spec, shard, context, advance, draw, taken)
    arrays["indices"] = spec.indices(shard.start, shard.stop).astype(np.int64)
    metadata = dict[str, str]()
    if spec.keeps_samples:
        arrays, metadata = arrays | taken.arrays, taken.metadata
    elif taken.failures:
        metadata = {"failures": json.dumps(taken.failures)}
    elif not spec.draws:
        metadata = {"drawn": NOTHING.drawn, "used": NOTHING.used, "failures": "{}"}
    files = [File(spec.shard_key(shard), arrays, metadata)]
    if spec.keeps_samples and kept is None:
        files.insert(0, File(kept_key(spec, shard), *taken.file()))
    there = taken.identity if spec.keeps_samples else NOTHING
    values = _joined(spec, parts) | score_by_likelihood(spec, shard, context, spec.suite.scorers)
    if not spec.draws:
        advance(shard.stop - shard.start)
    return files + _value_files(spec, shard, context, values, there)


def _pass(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, advance: Advance, draw: Draw, taken: DrawnRows
) -> tuple[dict[str, np.ndarray], list[dict[str, Values]]]:
    """One pass over the samples of a shard: arrays of the sample shard, and values by label of each batch."""

    extractors = {label: opening.extractor(context, use) for label, use in spec.suite.extractors.items()}

    def work(start: int, stop: int) -> tuple[Drawn, dict[str, dict[str, Tensor]], dict[str, Values]]:
        drawn = draw(start, stop)
        found = {label: validation.outputs(each, drawn.samples) for label, each in extractors.items()}
        return drawn, found, _scored(spec, context, start, drawn, list(spec.suite.scorers))

    features = FeatureBlocks()
    texts: list[str] = []
    values: list[dict[str, Values]] = []
    shown = GalleryCollector(shard.start, spec.suite.gallery)
    # Scorers, which may be paid, see no sample before it is checked.
    with nullcontext() if spec.keeps_samples else deferred():
        for drawn, found, scored in context.batches_of(spec.suite.modality).over(shard.start, shard.stop, work):
            for label, outputs in found.items():
                features.add(label, extractors[label], outputs)
            if isinstance(drawn.samples, Texts):
                texts.extend(drawn.samples.items)
            if spec.keeps_samples:
                drawn = replace(drawn, samples=on_host(drawn.samples))
            shown.add(drawn.samples)
            taken.add(drawn)
            values.append(scored)
            advance(len(drawn.samples))
    arrays = features.arrays()
    if texts:
        arrays["texts"] = np.frombuffer(json.dumps(texts).encode(), np.uint8)
    return arrays | shown.arrays(), values


def _score_again(
    spec: EvaluationSpec,
    shard: Shard,
    context: EvaluationContext,
    advance: Advance,
    due: Sequence[str],
    there: Identity,
) -> list[File]:
    """Compute values of some scorers for samples that were drawn before.

    Raises:
        OtherSamplesError: they were not kept, and are not drawn again alike.
    """
    by_likelihood = [label for label in due if is_by_likelihood(spec, context, label)]
    values = score_by_likelihood(spec, shard, context, by_likelihood)
    if others := [label for label in due if label not in by_likelihood]:
        kept = kept_whole(spec, shard, context)
        if kept and kept.identity == there:
            draw = _from_kept(kept, shard)
        else:
            draw = _drawn_again(spec, shard, context)

        def work(start: int, stop: int) -> dict[str, Values]:
            return _scored(spec, context, start, draw(start, stop), others)

        parts = []
        for part in context.batches_of(spec.suite.modality).over(shard.start, shard.stop, work):
            parts.append(part)
            advance(len(part[others[0]]))
        values |= _joined(spec, parts)
    else:
        advance(shard.stop - shard.start)
    return _value_files(spec, shard, context, values, there)


def _scored(
    spec: EvaluationSpec, context: EvaluationContext, start: int, drawn: Drawn, labels: Sequence[str]
) -> dict[str, Values]:
    """Values of a batch by label, of the scorers of samples among ``labels``."""
    values, answers = {}, answers_of(spec.suite.items, drawn.samples)
    for label in labels:
        scorer = opening.scorer(context, spec.suite.scorers[label], spec.suite.modality)
        if not isinstance(scorer, ScoresLikelihoods):
            items = item_batch(context, spec, start, start + len(answers), scorer.info.reads, drawn.usage)
            values[label] = scoring.score(scorer, answers, items, drawn.failures)
    return values


def _from_generator(spec: EvaluationSpec, shard: Shard, context: EvaluationContext) -> Draw:
    generator = opening.generator_of(context, spec)
    if isinstance(generator, ReadsAhead):
        generator.expect(sources_of(context, spec, shard.start, spec.suite.samples))

    def draw(start: int, stop: int) -> Drawn:
        request = request_of(context, spec, start, stop)
        begun = time.perf_counter()
        drawn = validation.sample(generator, request)
        if not spec.keeps_samples:
            return drawn
        if context.device.type == "cuda":
            torch.cuda.synchronize(context.device)
        return replace(drawn, usage=_measured(drawn.usage, len(request), time.perf_counter() - begun))

    return draw


def _measured(usage: Usage | None, n: int, seconds: float) -> Usage:
    """Usage with the measured seconds where the generator does not know them."""
    unknown = torch.full((n,), torch.nan, dtype=torch.float64)
    usage = usage or Usage(unknown, unknown, unknown)
    own = usage.seconds.double().cpu()
    return replace(usage, seconds=torch.where(own.isnan(), seconds / n, own))


def _from_kept(kept: Kept, shard: Shard) -> Draw:
    return lambda start, stop: kept.at(start - shard.start, stop - shard.start)


def _drawn_again(spec: EvaluationSpec, shard: Shard, context: EvaluationContext) -> Draw:
    """Draw the samples of a shard again; they must have the digests, failures and, by definition, costs of before."""
    key = spec.shard_key(shard)
    arrays = context.artifacts.read_arrays(key)
    failures = json.loads(context.artifacts.read_metadata(key)["failures"])
    draw = _from_generator(spec, shard, context)

    def again(start: int, stop: int) -> Drawn:
        drawn, part = draw(start, stop), slice(start - shard.start, stop - shard.start)
        before = {int(row) - part.start for row in failures if part.start <= int(row) < part.stop}
        if (
            not np.array_equal(digests_of(on_host(drawn.samples)), arrays["digests"][part])
            or before != drawn.failures.keys()
        ):
            raise OtherSamplesError
        return replace(drawn, usage=usage_of(arrays["usage"][part]))

    return again


def _joined(spec: EvaluationSpec, parts: Sequence[Mapping[str, Values]]) -> dict[str, Values]:
    """The values of all batches; raises if a scorer crashed on every sample."""
    joined = {label: scoring.concatenate([part[label] for part in parts]) for label in (parts[0] if parts else ())}
    for label, values in joined.items():
        scoring.require_some(f"scorer {spec.suite.scorers[label].use!r}", values)
    return joined


def _value_files(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, values: Mapping[str, Values], there: Identity
) -> list[File]:
    of = identities(context, spec, there)
    return [File(values_key(spec, label, shard), arrays_of(each), {"of": of[label]}) for label, each in values.items()]
