"""Prediction-powered inference: one rate from many judgments of a judge and a few of people, as unbiased as people's.

The judge's mean over all items, moved by how far people differ from the judge on the items that both rated.
Angelopoulos et al., "Prediction-powered inference" (2023); the weight of the judge is tuned to the least variance
within 0 and 1, as in Angelopoulos, Duchi and Zrnic, "PPI++: Efficient prediction-powered inference" (2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from evalsvc.metrics.intervals import bounds
from evalsvc.metrics.score import MetricError

FEWEST = 20
"""Below this many items rated by people there is no error."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A mean in [0, 1] over items, with its standard error and 95 % interval."""

    value: float
    stderr: float
    ci_low: float
    ci_high: float
    items: int


@dataclass(frozen=True, slots=True)
class PredictionPowered:
    """People alone, the judge alone (whose interval is about the judge's opinion), and both together.

    ``weight`` is the tuned weight of the judge, 0 to 1: at 0 both together are people alone.
    """

    people: Rate
    judge: Rate
    together: Rate
    weight: float


def prediction_powered(
    people: Float[np.ndarray, " n"], judged: Float[np.ndarray, " n"], others: Float[np.ndarray, " others"]
) -> PredictionPowered:
    """Rate of items that people rated (mean points of an item, 0 to 1), with the judge on these and on all others.

    The rated items must be a random subset of all items: they stand for the others. Items count as independent, the
    votes on one item as one. The standard error is never larger than that of people alone, since a weight of 0 is among
    those tried.

    Raises:
        MetricError: fewer than 20 items rated by people, lengths differ, or a value is outside [0, 1].

    >>> rng = np.random.default_rng(0)
    >>> judge = rng.integers(0, 2, 1000) * 1.0
    >>> both = prediction_powered(judge[:50], judge[:50], judge[50:])
    >>> both.together.stderr < both.people.stderr / 3
    True
    """
    n, rest = len(people), len(others)
    if n < FEWEST or len(judged) != n:
        raise MetricError(f"people rated {n} items that the judge compared; at least {FEWEST} are needed")
    for values in (people, judged, others):
        if not ((values >= 0) & (values <= 1)).all():
            raise MetricError("points of items must be between 0 (all lost) and 1 (all won)")
    everything = np.concatenate([judged, others])
    alone, judge = _rate(float(people.mean()), _variance(people) / n, n), _rate_of(everything)
    spread = _variance(everything)
    if rest == 0 or spread == 0:
        return PredictionPowered(alone, judge, alone, 0.0)
    weights = _tuned(people, judged, spread * (1 + n / rest))
    # Each item has the weight of the others: one that its own error entered would pull the rate to that error.
    terms = people + weights * (float(others.mean()) - judged)
    weight = float(weights.mean())
    variance = weight**2 * spread / rest + _variance(terms) / n
    if variance >= alone.stderr**2:
        return PredictionPowered(alone, judge, alone, 0.0)
    return PredictionPowered(alone, judge, _rate(float(terms.mean()), variance, n), weight)


def _tuned(people: Float[np.ndarray, " n"], judged: Float[np.ndarray, " n"], spread: float) -> Float[np.ndarray, " n"]:
    """The judge's weight of least variance, found without each item."""
    n, both = len(people), (people - people.mean()) * (judged - judged.mean())
    shared = (both.sum() - n / (n - 1) * both) / (n - 2)
    return np.asarray(np.clip(shared / spread, 0.0, 1.0))


def _variance(values: Shaped[np.ndarray, " n"]) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _rate_of(values: Shaped[np.ndarray, " n"]) -> Rate:
    return _rate(float(values.mean()), _variance(values) / len(values), len(values))


def _rate(value: float, variance: float, items: int) -> Rate:
    """A rate in [0, 1]; equal values of all items are as uncertain as one vote."""
    value = min(max(value, 0.0), 1.0)
    stderr = math.sqrt(variance) if variance > 0 else 1 / items
    low, high = bounds(value, stderr, items, (0.0, 1.0))
    return Rate(value, stderr, low, high, items)
