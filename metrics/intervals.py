"""Intervals of aggregates over few independent units: Student's t, and shares that stay in [0, 1]."""

from __future__ import annotations

import math

TAIL = 0.025
"""Probability beyond each end of a 95 % interval."""


def student(members: int, tail: float = TAIL) -> float:
    """Quantile of Student's t beyond which ``tail`` lies, for an error found from ``members`` units."""
    from scipy.special import stdtrit  # a fifth of the time that a command takes to start

    return float(stdtrit(max(1, members - 1), 1 - tail))


def bounds(
    value: float, stderr: float, members: int, span: tuple[float, float], tail: float = TAIL, *, binomial: bool = False
) -> tuple[float, float]:
    """Interval of a mean with range ``span``, from its error over ``members`` units.

    A value in [0, 1] has the mid-P binomial interval at the number of independent samples that its error amounts to,
    shrunk as Student's t widens (Korn and Graubard, 1998); a ``binomial`` one is over independent flags.
    Wilson's interval of 20 flags covers 0.84 at a share of 0.009; this one 0.93 and more at every share.
    """
    quantile = student(members, tail)
    if span != (0.0, 1.0):
        return value - quantile * stderr, value + quantile * stderr
    from scipy.special import ndtri

    effective = float(members)
    if 0 < value < 1:
        widening = 1.0 if binomial else (float(-ndtri(tail)) / quantile) ** 2
        effective = max(1.0, value * (1 - value) / stderr**2 * widening)
    return _lower(value, effective, tail), 1 - _lower(1 - value, effective, tail)


def _lower(share: float, n: float, tail: float) -> float:
    """The share under which ``share`` of ``n`` or more has probability ``tail``; exactly so many count half."""
    from scipy.optimize import brentq
    from scipy.special import betainc

    hits, rest = share * n, (1 - share) * n
    if hits <= 0:
        return 0.0
    if rest <= 0:
        return math.exp(math.log(2 * tail) / n)

    def excess(p: float) -> float:
        return 0.5 * float(betainc(hits, rest + 1, p) + betainc(hits + 1, rest, p)) - tail

    return float(brentq(excess, 0.0, 1.0, xtol=1e-12))
