"""Statistics of a whole corpus, found from sums over its samples: ratios, BLEU, chrF.

A scorer returns the sums of each sample as quantities of their own. Errors are leave-one-out over items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from evalsvc.metrics.aggregates import absent, derived, require
from evalsvc.metrics.members import Members, Statistic
from evalsvc.metrics.registry import Quantity, metric
from evalsvc.metrics.score import MetricError, Score
from evalsvc.metrics.units import Groups, Units

Sums = Float64[np.ndarray, "*batch k"]
Batch = Float64[np.ndarray, " *batch"]


def ratio(sums: Sums) -> Batch:
    """First sum over the second: errors over words of the target."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def percent(sums: Sums) -> Batch:
    """100 times the :func:`ratio`, as TER is given."""
    return np.asarray(100 * ratio(sums))


def bleu(sums: Sums) -> Batch:
    """BLEU in [0, 100] as sacrebleu's with exponential smoothing (Post, 2018, arXiv:1804.08771).

    Sums: clipped matches of orders 1 to N, n-grams of the samples of orders 1 to N, length of the samples, and of the
    targets.
    """
    orders = (sums.shape[-1] - 2) // 2
    matches, totals = sums[..., :orders], sums[..., orders : 2 * orders]
    length, wanted = sums[..., -2], sums[..., -1]
    smooth = 2.0 ** np.cumsum(matches == 0, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(matches > 0, matches, 1 / smooth) / totals
        penalty = np.minimum(1.0, np.exp(1 - wanted / length))
        value = 100 * penalty * np.exp(np.log(precision).mean(-1))
    return np.where((totals > 0).all(-1) & (matches > 0).any(-1) & (length > 0), value, 0.0)


def chrf(sums: Sums) -> Batch:
    """chrF in [0, 100] as sacrebleu's with beta 2 (Popovic, 2015). Sums: of each order n-grams of samples, of targets,
    and matches.
    """
    mine, theirs, matches = (sums[..., i::3] for i in range(3))
    usable = (mine > 0) & (theirs > 0)
    count = np.maximum(usable.sum(-1), 1)
    precision, recall = (
        np.where(usable, matches / np.maximum(each, 1), 0.0).sum(-1) / count for each in (mine, theirs)
    )
    return np.asarray(500 * precision * recall / np.where(precision + recall > 0, 4 * precision + recall, 1.0))


CORPUS: Mapping[str, Statistic] = {each.__name__: each for each in (ratio, percent, bleu, chrf)}
"""Statistics by the name that a quantity gives as its ``corpus``."""


def _derive(quantity: Quantity, _options: Mapping[str, Any]) -> tuple[Quantity, ...]:
    if quantity.corpus not in CORPUS:
        raise ValueError(f"the scorer declares no corpus statistic of {quantity.name!r}: use mean")
    return (derived(quantity, f"{quantity.name}_corpus", "* of the corpus", "*（语料库）"),)


@metric(version=1, derive=_derive)
def corpus(sums: Float64[np.ndarray, "n k"], quantity: Quantity, groups: Groups | None = None) -> Score:
    """Statistic of the whole corpus that ``quantity`` declares, from the summed ``sums`` of its samples.

    A sample of which any sum is NaN is left out.
    """
    whole, there = _derive(quantity, {})[0], np.isfinite(sums).all(1)
    members = require(Members.of(Units.of(len(sums), groups), there), whole)
    value, moves = members.moves(np.asarray(sums[members.rows], np.float64), CORPUS[quantity.corpus])
    if not np.isfinite(value):
        raise MetricError(f"{whole.name} does not exist: the sums of all samples divide by 0")
    return members.score(whole, value, moves, details=absent(there))
