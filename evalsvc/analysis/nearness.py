"""Nearness to a right value: distances of scores from their targets, and the difference of two distances.

Of ``x = b - t`` and ``y = a - t``, ``|x| - |y|`` is the smaller of ``|x - y|`` and ``|x + y|``, and b is farther from t
than a where both have the same sign. So its interval is the image of those of ``b - a``, where the error of a shared
target cancels, and of ``b + a - 2 t``, where it does not. It covers at least as often as these two, and excludes 0 only
where both do: on the same side of the target the first decides, on opposite sides the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from evalsvc.analysis.differences import Difference, Run, difference
from evalsvc.core.columns import ScoreColumns
from evalsvc.metrics.score import Z95, Reference
from evalsvc.store.dashboard_queries import Point


@dataclass(frozen=True)
class Distance:
    """How far a score is from its target, never negative; the interval is ``None`` where an error is unknown."""

    value: float
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, value: float, interval: tuple[float, float] | None, target: float, error: float | None) -> Distance:
        """The distance of a value with an interval from a target whose half-width at the same level is ``error``."""
        if interval is None or error is None:
            return cls(abs(value - target), None)
        low = value - target - math.hypot(value - interval[0], error)
        high = value - target + math.hypot(interval[1] - value, error)
        nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
        return cls(abs(value - target), (nearest, max(abs(low), abs(high))))


@dataclass(frozen=True)
class Nearness:
    """By how much b is farther from its target than a: below 0, b is better.

    ``gap`` is b - a, ``total`` b + a; the targets of both sides are the same one, or independent of each other.
    """

    gap: Difference
    total: Difference
    targets: tuple[float, float]
    stderrs: tuple[float | None, float | None]
    shared: bool

    @property
    def value(self) -> float:
        """The difference of the distances, in the unit of the score."""
        of_a, of_b = self.targets
        return _folded(self.gap.value - (of_b - of_a), self.total.value - (of_a + of_b))

    def interval(self, z: float = Z95, reference: Reference = "fixed") -> tuple[float, float] | None:
        """The interval at the level of ``z`` normal standard errors; ``None`` where an error is unknown."""
        gap, total = self.gap.interval(z, reference), self.total.interval(z, reference)
        of_a, of_b = self.stderrs
        if gap is None or total is None or of_a is None or of_b is None:
            return None
        apart, both = (0.0, 2 * of_a) if self.shared else (math.hypot(of_a, of_b),) * 2
        shift_apart, shift_both = self.targets[1] - self.targets[0], sum(self.targets)
        differences = _moved(self.gap.value, gap, shift_apart, z * apart)
        sums = _moved(self.total.value, total, shift_both, z * both)
        # Monotonic in each of the two, so that its extremes are at the corners.
        corners = [_folded(*corner) for corner in product(differences, sums)]
        return min(corners), max(corners)


@dataclass(frozen=True)
class Farther:
    """By how much b is farther from the right value than a, with its 95 % intervals; below 0, b is nearer."""

    value: float
    interval: tuple[float, float] | None
    interval_sampled: tuple[float, float] | None

    @classmethod
    def of(cls, a: Sequence[Run], b: Sequence[Run]) -> Farther | None:
        """From the runs of both sides; ``None`` without a right value."""
        found = nearness(a, b)
        return None if found is None else cls(found.value, found.interval(), found.interval(reference="sampled"))


def distances(scores: Sequence[ScoreColumns | Point], reference: Reference = "fixed") -> list[Distance] | None:
    """The distances of stored scores of one protocol from their targets with 95 % intervals; ``None`` without a target.

    A score of before, without a target, is held against that of another.
    """
    known = next((score for score in scores if score.target is not None), None)
    return None if known is None else [_distance(each, known, reference) for each in scores]


def _distance(score: ScoreColumns | Point, known: ScoreColumns | Point, reference: Reference) -> Distance:
    right = known if score.target is None else score
    ends = None if score.ci_low is None or score.ci_high is None else (score.ci_low, score.ci_high)
    error = None if right.target_stderr is None else Z95 * right.target_stderr
    if reference == "sampled" and error is not None:
        error = math.hypot(error, Z95 * (score.stderr_reference or 0.0))
    return Distance.of(score.value, ends, right.target or 0.0, error)


def nearness(a: Sequence[Run], b: Sequence[Run]) -> Nearness | None:
    """How much farther the mean of the runs ``b`` is from its target than that of ``a``; ``None`` without a target.

    The two sides have one protocol: a target that only one of them was given is that of both.
    """
    of_a, of_b = (next((run for run in reversed(side) if run.target is not None), None) for side in (a, b))
    first, second = of_a or of_b, of_b or of_a
    if not (first and second) or first.target is None or second.target is None:
        return None
    targets, stderrs = (first.target, second.target), (first.target_stderr, second.target_stderr)
    shared = (first.target, first.target_stderr) == (second.target, second.target_stderr)
    return Nearness(difference(a, b), difference(a, b, times=-1.0), targets, stderrs, shared)


def _moved(value: float, interval: tuple[float, float], shift: float, more: float) -> tuple[float, float]:
    low, high = math.hypot(value - interval[0], more), math.hypot(interval[1] - value, more)
    return value - shift - low, value - shift + high


def _folded(gap: float, total: float) -> float:
    """``|x| - |y|`` of ``x - y`` and ``x + y``."""
    return math.copysign(min(abs(gap), abs(total)), math.copysign(1.0, gap) * math.copysign(1.0, total))
