"""Influence functions: how far each independent unit moves a score, alone and in a difference of two scores.

The influence psi(x) of a sample on a smooth statistic, found from the sample itself, has a variance V that takes the
noise of psi for signal: where the statistic is near an extremum (two equal laws) V is twice too large. That noise
doubles in half a sample while the signal stays, so the variance V' within two random halves, each under its own psi,
tells them apart.

Two scores over the same units are paired: the variance of their difference is that of ``psi_a - psi_b``, with every
correction made on the difference. It holds for independent units as well, where it is the sum of both variances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, Int64

from evalsvc.metrics.errors import MetricError

Rows: TypeAlias = Int64[np.ndarray, " _"]

LEAST = 20
METHOD = "influence function, own noise taken off by halves"
TOO_FEW = f"none: fewer than {LEAST} samples"
_HEAVY, _FEW_UNITS = 0.2, 10
ABOUT_TRAINING = "none: the score is about this training set, not about the law that it was drawn from"


def halves(n: int) -> tuple[Rows, Rows]:
    """Two random halves of ``range(n)``, always the same; each sorted, so that rows are read in order.

    Random, because the order of samples may carry their classes.
    """
    order = np.random.default_rng(n).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])


def some_rows(n: int, most: int) -> Rows:
    """At most ``most`` random rows of ``range(n)``, the same for all sets of as many, so that any two can be paired.

    Random, because the order of samples may carry their classes; sorted.
    """
    return np.sort(np.random.default_rng(n).permutation(n)[:most])


def variance(whole: float, half: float) -> float:
    """Variance of a single unit's influence from V and V': ``clip(V - (V' - V) / 2, V / 2, V)``."""
    return min(max(whole - (half - whole) / 2, whole / 2), whole)


@dataclass(frozen=True, eq=False)
class Influence:
    """Vectors that pair a score with another over the same units: float32, in units of the score.

    ``whole`` holds the centered influence of each unit: of ``n`` units the score varies by the mean square of ``whole``
    (ddof 1) over ``n``. ``half`` is the same under each unit's own half of the units, scaled so that its mean square
    (ddof 1) is V', or has that from :meth:`interacting` units; ``None`` where V needs no correction. ``splits`` holds
    differences between disjoint halves (:mod:`evalsvc.metrics.split_half`), whose mean square is four times the
    variance; ``pairs`` the pair function of a U-statistic for disjoint pairs of units, whose variance Z is its noise of
    second order; ``draws`` the values of random subsets, whose variance over their number is added; ``control`` the
    influence of each sample of a second set that is also redrawn. ``noise`` is the part of a reference's ``whole`` or
    ``splits`` that the finite generated set is to blame for, half the disagreement of its two halves: its mean square
    is taken off, as the error of the generated samples counts it already. ``shared`` is the root mean square of the
    part that the finite reference itself is to blame for: the same rows make it in the influences on any score, so that
    it cancels in a difference as far as both scores have as much of it. ``within`` is how each row of a group moves the
    score beside the other rows of it: what is left where the groups themselves are fixed (:attr:`of_draws`).
    ``student`` units are few: differences are judged by Student's t, with as many degrees of :attr:`freedom`. Only
    ``members`` of the units move a score that the others do not apply to, by default all. A score on a ``logarithmic``
    scale has an interval that is symmetric there; its influence is that on the value. ``least`` is what one unit could
    change a share by: a difference is never surer than that.
    """

    n: int
    whole: Float32[np.ndarray, " units"] | None = None
    half: Float32[np.ndarray, " halves"] | None = None
    splits: Float32[np.ndarray, " splits"] | None = None
    pairs: Float32[np.ndarray, " pairs"] | None = None
    draws: Float32[np.ndarray, " subsets"] | None = None
    control: Float32[np.ndarray, " control"] | None = None
    noise: Float32[np.ndarray, " noise"] | None = None
    within: Float32[np.ndarray, " rows"] | None = None
    student: bool = False
    logarithmic: bool = False
    least: float = 0.0
    members: int = 0
    shared: float = 0.0

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the error; infinite unless ``student``."""
        return (self.members or self.n) - 1.0 if self.student else math.inf

    @property
    def parts(self) -> dict[str, Float32[np.ndarray, " _"]]:
        """The vectors that are there, by name."""
        names = ("whole", "half", "splits", "pairs", "draws", "control", "noise", "within")
        return {name: vector for name in names if (vector := getattr(self, name)) is not None}

    @property
    def variance(self) -> float:
        """Squared standard error of the score, or of a difference of scores, that these influences are of."""
        total = 0.0
        if self.whole is not None:
            own = _mean_square(self.whole)
            if self.half is not None:
                own = variance(own, _mean_square(self.half))
            if self.noise is not None:
                own = max(own - _mean_square(self.noise) - self.shared**2, 0.0)
            if self.pairs is not None:
                noise = 2 * _variance(self.pairs) / self.n
                # Equal laws have own = 2 noise: half of the rest is a floor that chance seldom lifts.
                own = max(own - noise, noise / 2)
            total += own / self.n
        if self.splits is not None:
            own = float(np.mean(np.square(self.splits, dtype=np.float64)))
            if self.noise is not None:
                own = max(own - float(np.mean(np.square(self.noise, dtype=np.float64))), 0.0)
            total += own / 4
        if self.draws is not None:
            total += _variance(self.draws) / len(self.draws)
        if self.control is not None:
            total += _mean_square(self.control) / len(self.control)
        return total

    @property
    def remark(self) -> str:
        """The end of a method where one unit carries more than a fifth of the variance; empty where none does.

        The tail is then so heavy that a sample often misses the rows that count most, and with them most of the error.

        >>> Influence(100, whole=np.r_[30.0, np.ones(99)].astype(np.float32)).remark
        '; one of 100 carries 90 % of the variance, so that the error may be too small'
        """
        squares = np.square([0.0] if self.whole is None else self.whole, dtype=np.float64)
        share = float(squares.max() / max(squares.sum(), np.finfo(float).tiny))
        if share <= max(_HEAVY, _FEW_UNITS / self.n):
            return ""
        return f"; one of {self.n:,} carries {100 * share:.0f} % of the variance, so that the error may be too small"

    @property
    def of_draws(self) -> Influence | None:
        """The influence of single rows where the groups are fixed; ``None`` where that is unknown."""
        return None if self.within is None else Influence(len(self.within), whole=self.within, least=self.least)

    def interacting(self, pairs: Float64[np.ndarray, " pairs"]) -> Influence:
        """The influence with a ``half`` that comes from the pair function of some disjoint pairs of units.

        V' exceeds V by four times the variance of the pair function over ``n``. ``half`` is ``whole``, then the pairs.
        """
        assert self.whole is not None
        size = len(self.whole) + len(pairs) - 1
        scale = math.sqrt(4 * size / (self.n * max(1, len(pairs) - 1)))
        parts = self.whole * math.sqrt(size / max(1, len(self.whole) - 1)), (pairs - pairs.mean()) * scale
        return replace(self, half=np.concatenate(parts).astype(np.float32))

    def minus(self, other: Influence, times: float = 1.0) -> Influence:
        """The influences on this score less ``times`` the other, unit by unit.

        Raises :class:`MetricError` where the two are not of the same number of units, or found in other ways.
        """
        mine, theirs = self.parts, other.parts
        if (self.n, self.student, {k: len(v) for k, v in mine.items()}) != (
            other.n,
            other.student,
            {k: len(v) for k, v in theirs.items()},
        ):
            raise MetricError(f"influences of {self.n} and {other.n} units cannot be paired")
        parts = {name: vector - np.float32(times) * theirs[name] for name, vector in mine.items()}
        return self._with(parts, self.shared - times * other.shared)

    def times(self, factor: float) -> Influence:
        """The influence on ``factor`` times this score."""
        return self._with({k: np.float32(factor) * vector for k, vector in self.parts.items()}, factor * self.shared)

    def _with(self, parts: Mapping[str, Any], shared: float) -> Influence:
        return replace(self, **parts, shared=shared)


def paired(a: Influence, b: Influence, times: float = 1.0) -> float:
    """Standard error of score a less ``times`` score b, both over the same units.

    Raises :class:`MetricError` where the two are not of the same number of units, or found in other ways.

    >>> same = Influence(3, whole=np.array([1.0, -2.0, 1.0], np.float32))
    >>> paired(same, same)
    0.0
    """
    return math.sqrt(a.minus(b, times).variance)


def _variance(values: Float32[np.ndarray, " n"]) -> float:
    return float(values.var(ddof=1, dtype=np.float64))


def _mean_square(psi: Float32[np.ndarray, " n"] | Float64[np.ndarray, " n"]) -> float:
    # Influences are already centered, each half separately.
    wide = psi.astype(np.float64)
    return float(wide @ wide) / max(1, len(wide) - 1)
