"""Agreement between raters beyond chance: Krippendorff's alpha, with an interval over items, and Cohen's kappa."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float64, Shaped

from evalsvc.metrics.intervals import student
from evalsvc.metrics.score import MetricError

Level: TypeAlias = Literal["nominal", "ordinal", "interval", "ratio"]
CHUNK = 256
FEWEST = 10
"""Below this many items with two ratings there is no interval."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """1 is perfect agreement, 0 that of chance, below 0 is systematic disagreement.

    ``alpha`` is ``None`` where no item has two ratings or all ratings are equal: nothing could differ. ``ci_low`` and
    ``ci_high`` (95 %, for other items) are ``None`` under ten items with two ratings, which ``items`` counts, and where
    no two ratings of an item differ.
    """

    alpha: float | None
    ci_low: float | None
    ci_high: float | None
    items: int
    raters: int


def krippendorff_alpha(ratings: Shaped[np.ndarray, "raters items"], level: Level = "nominal") -> Agreement:
    """Krippendorff's alpha of numeric ratings, NaN where a rater did not rate an item.

    ``level`` says which differences count: nominal (any), ordinal (ranks), interval (squares) or ratio (relative). The
    interval leaves out one item after the other, with Student's t. Items with one rating have no part in it.

    Klaus Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011).

    Raises:
        MetricError: the array is not a matrix, has an infinite rating, or a negative one at level ratio.

    >>> nan = np.nan
    >>> table = krippendorff_alpha(np.array([[1, 2, 3, nan], [1, 2, 2, 3]]))
    >>> round(table.alpha, 3), table.items
    (0.545, 3)
    """
    table = np.asarray(ratings, np.float64)
    if table.ndim != 2 or np.isinf(table).any():
        raise MetricError("ratings must be finite numbers, one row a rater and one column an item, NaN where missing")
    if level == "ratio" and (table < 0).any():
        raise MetricError("ratings at level ratio must not be negative")
    values, place = np.unique(table[~np.isnan(table)], return_inverse=True)
    counts = np.zeros((table.shape[1], len(values)))
    np.add.at(counts, (np.nonzero(~np.isnan(table))[1], place), 1)
    counts = counts[counts.sum(axis=1) >= 2]
    raters = int((~np.isnan(table)).any(axis=1).sum())
    count = len(counts)
    alpha = float(_alphas(counts, values, level, np.ones((1, count)))[0]) if count else math.nan
    if math.isnan(alpha):
        return Agreement(None, None, None, count, raters)
    if count < FEWEST or alpha == 1:
        return Agreement(alpha, None, None, count, raters)
    chunks = np.array_split(np.arange(count), -(-count // CHUNK))
    left_out = [_alphas(counts, values, level, 1.0 - (chunk[:, None] == np.arange(count))) for chunk in chunks]
    half = student(count) * math.sqrt((count - 1) * np.nan_to_num(np.concatenate(left_out), nan=alpha).var())
    return Agreement(alpha, alpha - half, min(1.0, alpha + half), count, raters)


def _alphas(
    counts: Float64[np.ndarray, "items values"],
    values: Float64[np.ndarray, " values"],
    level: Level,
    weights: Float64[np.ndarray, "draws items"],
) -> Float64[np.ndarray, " draws"]:
    """Alpha of items with these weights; NaN where all ratings are equal."""
    rated = counts.sum(axis=1)
    totals = weights @ counts
    observed = np.einsum("di,iv,iw->dvw", weights / (rated - 1), counts, counts, optimize=True)
    everything = totals.sum(axis=1)
    apart = _distances(values, totals, level)
    expected = (totals[:, :, None] * totals[:, None, :] * apart).sum(axis=(1, 2)) / (everything - 1)
    disagreed = (observed * apart).sum(axis=(1, 2))  # the diagonal has distance 0
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(expected > 0, 1 - disagreed / expected, np.nan))


def _distances(
    values: Float64[np.ndarray, " values"], totals: Float64[np.ndarray, "draws values"], level: Level
) -> Float64[np.ndarray, "draws_or_1 values values"]:
    apart = values[:, None] - values
    if level == "nominal":
        return np.asarray(apart[None] != 0, np.float64)
    if level == "interval":
        return np.asarray(apart[None] ** 2)
    if level == "ratio":
        total = values[:, None] + values
        return np.asarray(np.divide(apart, total, out=np.zeros_like(apart), where=total > 0)[None] ** 2)
    middle = totals.cumsum(axis=1) - totals / 2  # ratings between two values, their own by half
    return np.asarray((middle[:, :, None] - middle[:, None, :]) ** 2)


def cohen_kappa(first: Shaped[np.ndarray, " n"], second: Shaped[np.ndarray, " n"]) -> float | None:
    """Agreement of two raters of the same items beyond chance; ``None`` if both always say the same one thing.

    Jacob Cohen, "A coefficient of agreement for nominal scales" (1960).

    >>> round(cohen_kappa(np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0])), 2)
    0.5
    """
    if first.shape != second.shape or len(first) == 0:
        raise MetricError("both raters must have rated the same items, at least one")
    values, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    a, b = (np.bincount(part, minlength=len(values)) / len(first) for part in np.split(place.reshape(-1), 2))
    chance = float(a @ b)
    return None if chance == 1 else (float((first == second).mean()) - chance) / (1 - chance)
