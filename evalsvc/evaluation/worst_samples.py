"""The worst samples of an evaluation beyond the budget of kept samples: drawn again by seed, and kept beside."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Int64

from evalsvc.core.errors import DamagedError, EvalsvcError
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.items import request_of
from evalsvc.evaluation.kept_samples import digests_of, encode, kept_key
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.suite_entries import ScorerUse
from evalsvc.metrics.score import Direction
from evalsvc.plugins import validation
from evalsvc.plugins.registry import PluginKind
from evalsvc.plugins.samples import SampleRequest, Samples, concatenate, rows
from evalsvc.plugins.scoring import Values

KIND = "worst"
WORST = 20
"""Number of the worst samples of each quantity."""

log = logging.getLogger(__name__)


def keep_worst(spec: EvaluationSpec, context: EvaluationContext, key: str, scored: Mapping[str, Values]) -> bool:
    """Write those of the worst samples that were not kept, with their ``rows``; return whether there are any.

    A sample that is not drawn alike is left out, and so are all where the generator connects to the network or cannot
    be opened here.
    """
    missing = np.array(sorted(_worst(spec, scored) - _kept(spec, context)), np.int64)
    factory = context.plugins.get(PluginKind.GENERATOR, spec.generator).load() if len(missing) else None
    if factory is None or getattr(factory, "opens_network", False):
        return False
    try:
        parts = list(_drawn(spec, context, missing))
    except EvalsvcError as error:
        log.warning("the worst samples are not kept: %s", error)
        return False
    if not parts:
        return False
    arrays = encode(concatenate([samples for _, samples in parts]))
    context.artifacts.write_arrays(key, {**arrays, "rows": np.concatenate([numbers for numbers, _ in parts])})
    return True


def worst_of(use: ScorerUse, values: Values) -> set[int]:
    """The samples with the worst values of each quantity that has a better direction."""
    worst: set[int] = set()
    for quantity in use.quantities:
        if quantity.direction is not Direction.NEUTRAL:
            column = values.values[quantity.name] * (1 if quantity.direction is Direction.HIGHER else -1)
            order = np.argsort(column, kind="stable")  # NaN last
            worst |= set(order[: min(WORST, int(np.isfinite(column).sum()))].tolist())
    return worst


def _worst(spec: EvaluationSpec, scored: Mapping[str, Values]) -> set[int]:
    if not spec.draws:
        return set()
    return {row for label, values in scored.items() for row in worst_of(spec.suite.scorers[label], values)}


def _kept(spec: EvaluationSpec, context: EvaluationContext) -> set[int]:
    kept: set[int] = set()
    for shard in spec.shards_of("samples"):
        try:
            count = int(context.artifacts.read_metadata(kept_key(spec, shard)).get("kept", "0"))
        except DamagedError:
            count = 0
        kept |= set(range(shard.start, shard.start + count))
    return kept


def _drawn(
    spec: EvaluationSpec, context: EvaluationContext, numbers: Int64[np.ndarray, " n"]
) -> Iterator[tuple[Int64[np.ndarray, " k"], Samples]]:
    """The samples with these numbers that are drawn as before, shard by shard."""
    generator = opening.generator_of(context, spec)
    for shard in spec.shards_of("samples"):
        mine = numbers[(numbers >= shard.start) & (numbers < shard.stop)]
        if not len(mine):
            continue
        request = request_of(context, spec, shard.start, shard.stop).take((mine - shard.start).tolist())
        before = context.artifacts.read_arrays(spec.shard_key(shard))["digests"][mine - shard.start]

        def work(start: int, stop: int, request: SampleRequest = request) -> Samples:
            return validation.sample(generator, request.take(range(start, stop))).samples

        samples = concatenate(list(context.batches_of(spec.suite.modality).over(0, len(mine), work)))
        same = np.flatnonzero((digests_of(samples) == before).all(1))
        if len(same):
            yield mine[same], rows(samples, same.tolist())
