"""The errors of a difference: its half-widths at any level, as skewed as the scores, with or without the reference's
error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from evalsvc.metrics.skewness import quantile, widths


class Sides(NamedTuple):
    """Skewness of both sides of a difference ``b - a``, and the shares of ``b`` in its variance.

    What both sides have in common cancels, so the share that is left may be far from that of two independent sides; as
    it is uncertain where the two are about equal, each bound uses the one of both that is wider.
    """

    of_b: float
    of_a: float
    shares: tuple[float, float]

    @classmethod
    def of(cls, b: tuple[float, float], a: tuple[float, float], variance: float) -> Sides:
        """Of sides with a standard error and a skewness each, whose difference has this ``variance``."""
        alone = b[0] ** 2 + a[0] ** 2
        left = (variance + b[0] ** 2 - a[0] ** 2) / 2  # the variance of b less the covariance
        return cls(b[1], a[1], (b[0] ** 2 / alone, min(max(left / variance, 0.0), 1.0)))

    @property
    def turned(self) -> Sides:
        """Those of ``a - b``."""
        one, other = self.shares
        return Sides(self.of_a, self.of_b, (1 - one, 1 - other))

    def factors(self, z: float) -> tuple[float, float]:
        """Half-widths of the difference, downwards and upwards, in its standard errors, at the level of ``z``.

        Square and add (Newcombe, 1998): a bound combines those of both ends that it depends on.
        """
        (down, up), (a_down, a_up) = widths(1.0, self.of_b, z), widths(1.0, self.of_a, z)
        below = max(share * down**2 + (1 - share) * a_up**2 for share in self.shares)
        above = max(share * up**2 + (1 - share) * a_down**2 for share in self.shares)
        return math.sqrt(below), math.sqrt(above)


@dataclass(frozen=True)
class Errors:
    """Standard errors of an estimate toward lower (``below``) and higher values (``above``).

    They have ``freedom`` degrees of freedom. ``spread`` is the error estimated from several runs, with
    ``runs_freedom``; 0 for a single run. Runs that ``share`` their units differ only by their seeds, and then the
    spread is added to the error. ``reference`` is the standard error that the choice of the reference's rows adds,
    which neither samples nor seeds reduce; 0 where the reference is regarded as fixed. ``sides`` are those of a
    difference of skewed scores.
    """

    below: float
    above: float
    freedom: float = math.inf
    spread: float = 0.0
    runs_freedom: float = math.inf
    shared: bool = False
    reference: float = 0.0
    sides: Sides | None = None

    @property
    def turned(self) -> Errors:
        """The errors of the estimate with the opposite sign."""
        return replace(self, below=self.above, above=self.below, sides=self.sides and self.sides.turned)

    def widths(self, z: float) -> tuple[float, float]:
        """Half-widths of the interval, downwards and upwards, at the level of ``z`` normal standard errors.

        Errors from a few groups, and the spread between a few runs, are uncertain themselves, so Student's factor is
        used. If the spread contains the samples' own error, the larger of the two is used, which keeps the level for
        any true spread.
        """
        own = quantile(z, self.freedom)
        down, up = self.sides.factors(z) if self.sides else (z, z)
        down, up = (own / z * width if z else 0.0 for width in (down * self.below, up * self.above))
        if self.spread:
            between = quantile(z, self.runs_freedom) * self.spread
            combine = math.hypot if self.shared else max
            down, up = combine(down, between), combine(up, between)
        if self.reference:
            down, up = math.hypot(down, z * self.reference), math.hypot(up, z * self.reference)
        return down, up
