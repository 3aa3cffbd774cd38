"""Intervals that are as skewed as the statistic: value and error of a distance rise together.

The skewness of a score is the one number that its intervals need beside the standard error: that of the shifted gamma
law whose interval, at 95 %, is the score's to second order. For a mean it is the third standardized cumulant of the
mean. For other statistics two things enter, the third cumulant k3 of the estimate and how its variance moves with it
(the acceleration, cov(stderr^2, value)): ``(3 z^2 cov - (z^2 - 1) k3) / ((2 z^2 + 1) stderr^3)`` at z = 1.96, by the
Cornish-Fisher expansion of the studentized estimate (Hall 1992, The Bootstrap and Edgeworth Expansion, 2.6 and 3.5).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from evalsvc.metrics.influence import Influence

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal law: half a 95 % interval in standard errors."""

_NORMAL = 1e-3
_MOST = 1.5
"""Beyond it the gamma law has fewer than four degrees of freedom, and its interval hardly an end upwards."""
_FAR = 8.0
"""Standard errors beyond which the probability is too small for a quantile: intervals grow in proportion."""
_CROSSED = 3 * (Z95**2 + 1) / (2 * Z95**2 + 1)
"""Weight of the interaction of a signal with its noise: three in k3 and two in the acceleration."""
_NOISE = 0.45
"""Weight of the noise's own third cumulant: half of it enters the acceleration, which gives 0.34, and as much again
as stderr is itself found from few directions. Chosen by simulation (docs/explanations/uncertainty.md)."""


def widths(stderr: float, skewness: float, z: float) -> tuple[float, float]:
    """Half-widths of an interval, downwards and upwards, at the level of ``z`` normal standard errors.

    The estimate is taken for a shifted gamma variable (a scaled chi-square with ``8 / skewness^2`` degrees of freedom)
    whose spread is proportional to its distance from the shift; without skewness it is normal, and both are ``z``
    standard errors. A skewness beyond 1.5 counts as 1.5.

    >>> widths(1.0, 0.0, 2.0)
    (2.0, 2.0)
    >>> down, up = widths(1.0, 0.5, 1.96)
    >>> down < 1.96 < up
    True
    """
    if abs(skewness) < _NORMAL:
        return z * stderr, z * stderr
    from scipy.special import gammainccinv, gammaincinv, ndtr  # a fifth of the time that a command takes to start

    steep = min(abs(skewness), _MOST)
    shape, reach, tail = 4 / steep**2, 2 * stderr / steep, float(ndtr(-min(z, _FAR)))
    farther = max(z / _FAR, 1.0)
    down = farther * reach * (1 - shape / float(gammainccinv(shape, tail)))
    up = farther * reach * (shape / float(gammaincinv(shape, tail)) - 1)
    return (down, up) if skewness > 0 else (up, down)


def end_to_end(
    stderr: float, skewness: float, sides: tuple[float, float], z: float, freedom: float = math.inf
) -> tuple[float, float]:
    """Half-widths at the level of ``z`` of a score whose 95 % interval reaches ``sides`` downwards and upwards.

    An interval of its own form (of a share) is scaled, and never less than the standard error says. Errors from few
    units have ``freedom`` degrees of freedom.
    """
    factor = quantile(z, freedom)
    if skewness and z > 0:
        return widths(stderr * factor / z, skewness, z)
    usual = quantile(Z95, freedom)
    down, up = (factor * max(stderr, side / usual) for side in sides)
    return down, up


def quantile(z: float, freedom: float) -> float:
    """Student's factor at the level of ``z`` normal standard errors.

    >>> quantile(2.0, math.inf)
    2.0
    """
    if math.isinf(freedom):
        return z
    from scipy.special import ndtr, stdtrit  # a fifth of the time that a command takes to start

    return -float(stdtrit(freedom, float(ndtr(-z))))


def normal_quantile(level: float) -> float:
    """Half the width of a two-sided interval of a standard normal variable.

    >>> round(normal_quantile(0.95), 6)
    1.959964
    """
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + level / 2)


def combined(parts: list[tuple[float, float, float]]) -> tuple[float, float]:
    """Standard error and skewness of a weighted sum of independent estimates: (weight, stderr, skewness) of each.

    >>> combined([(1.0, 3.0, 0.0), (-1.0, 4.0, 0.0)])
    (5.0, 0.0)
    """
    stderr = math.sqrt(sum((weight * own) ** 2 for weight, own, _ in parts))
    third = sum((weight * own) ** 3 * skewness for weight, own, skewness in parts)
    return stderr, third / stderr**3 if stderr else 0.0


class Noise(NamedTuple):
    """A distance where two laws are equal: its standard deviation, and its skewness.

    ``pull`` is how much its noise bends a signal, in units of the score: that of the plain quadratic form unless given.
    """

    deviation: float
    skewness: float
    pull: float | None = None

    @property
    def bend(self) -> float:
        """``pull``, or half the third over the second cumulant."""
        return self.deviation * self.skewness / 2 if self.pull is None else self.pull


def of_quadratic(influence: Influence, stderr: float, noise: Noise) -> float:
    """Skewness of a distance: a statistic that is a quadratic form of the sample's noise where two laws are equal.

    ``influence`` is that of the units. What ``stderr`` has beyond the deviation of the ``noise`` is a signal, which has
    the skewness of the influences and, along the noise's typical direction, that of a non-central chi-square.

    >>> none = Influence(2, whole=np.zeros(2, np.float32))
    >>> round(of_quadratic(none, 1.0, Noise(1.0, 8**0.5)), 2)  # a single direction at equality
    1.27
    """
    scale = max(stderr, noise.deviation)
    if influence.whole is None or not scale > 0:
        return 0.0
    linear = float(((influence.whole.astype(float) / scale) ** 3).mean()) / influence.n**2
    if not math.isfinite(linear):  # influences of huge features are beyond single precision
        linear = 0.0
    own = noise.deviation / scale
    crossed = max((stderr / scale) ** 2 - own**2, 0.0) * noise.bend / scale
    return linear + _CROSSED * crossed + _NOISE * own**3 * noise.skewness


def frechet_noise(roots: Float64[np.ndarray, " r"], n: int, kurtosis: Float64[np.ndarray, " r"] | float = 2.0) -> Noise:
    """The Frechet distance of a sample of ``n`` to its own law.

    There it is a sum of squares: of the mean along each eigenvector of the covariance, and of each entry of the
    covariance in that basis (the metric of Bures). ``roots`` are the eigenvalues of ``(S S_r)^(1/2)``; at equality
    those of the covariance. ``kurtosis`` is the variance of the squares along each eigenvector, in squared eigenvalues:
    2 of a normal sample.

    >>> deviation, skewness, _ = frechet_noise(np.ones(1), 10)  # weights 1 for the mean and 1/2 for the variance
    >>> round(100 * deviation**2, 9), round(1000 * deviation**3 * skewness, 9)
    (2.5, 9.0)
    """
    largest = float(roots.max(initial=0.0))
    if not largest:
        return Noise(0.0, 0.0)
    roots = roots / largest
    with np.errstate(divide="ignore"):
        entries = np.reciprocal(np.add.outer(1 / roots, 1 / roots))
    squares = entries * entries
    second = float(squares.sum()) / 2 + float(((7 / 8 + kurtosis**2 / 16) * roots**2).sum())
    third = float(np.vdot(squares, entries)) / 2 + (1 + 1 / 16) * float((roots**3).sum())
    return Noise(largest * math.sqrt(2 * second) / n, third / second * math.sqrt(8 / second))


def pairs_skewness(kernel: Float64[np.ndarray, "k k"]) -> float:
    """Skewness of a U-statistic of degree two where it is degenerate, from its ``kernel`` among some units.

    There it is a sum of squares weighted by the eigenvalues of the centered kernel, whose cumulants are means over
    pairs and triples of different units. The diagonal is not read.

    >>> x = np.random.default_rng(0).standard_normal((300, 1))
    >>> abs(pairs_skewness(x @ x.T) - 8**0.5) < 0.3  # a single direction
    True
    """
    k, other = len(kernel), ~np.eye(len(kernel), dtype=bool)
    if k < 3:
        return 0.0
    off = np.where(other, kernel, 0.0)
    off /= max(float(abs(off).max()), np.finfo(float).tiny)
    means = off.sum(1) / (k - 1)
    off = np.where(other, off - means - means[:, None] + means.mean(), 0.0)
    second = float((off**2).sum()) / (k * (k - 1))
    third = float(((off @ off) * off).sum()) / (k * (k - 1) * (k - 2))
    return min(max(third / second * math.sqrt(8 / second), 0.0), math.sqrt(8)) if second > 0 else 0.0
