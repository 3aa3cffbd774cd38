"""Intervals that are as skewed as the statistic: value and error of a distance rise together."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal law: half a 95 % interval in standard errors."""

_NORMAL = 1e-3
_MOST = 2.0


def widths(stderr: float, skewness: float, z: float) -> tuple[float, float]:
    """Half-widths of an interval, downwards and upwards, at the level of ``z`` normal standard errors.

    The estimate is taken for a shifted gamma variable (a scaled chi-square with ``8 / skewness^2`` degrees of freedom)
    whose spread is proportional to its distance from the shift; without skewness it is normal, and both are ``z``
    standard errors.

    >>> widths(1.0, 0.0, 2.0)
    (2.0, 2.0)
    >>> down, up = widths(1.0, 0.5, 1.96)
    >>> down < 1.96 < up
    True
    """
    if abs(skewness) < _NORMAL:
        return z * stderr, z * stderr
    from scipy.special import chdtri, ndtr  # a fifth of the time that a command takes to start

    steep = min(abs(skewness), _MOST)
    freedom, reach, tail = 8 / steep**2, 2 * stderr / steep, float(ndtr(-z))
    down = reach * (1 - freedom / float(chdtri(freedom, tail)))
    up = reach * (freedom / float(chdtri(freedom, 1 - tail)) - 1)
    return (down, up) if skewness > 0 else (up, down)


def end_to_end(
    stderr: float, skewness: float, sides: tuple[float, float], z: float, freedom: float = math.inf
) -> tuple[float, float]:
    """Half-widths at the level of ``z`` of a score whose 95 % interval reaches ``sides`` downwards and upwards.

    An interval of its own form (of a share) is scaled, and never less than the standard error says. Errors from few
    units have ``freedom`` degrees of freedom.
    """
    factor = quantile(z, freedom)
    if skewness:
        return widths(stderr, skewness, factor)
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
