"""A composite index of a checkpoint, if its suite defines one: a weighted mean of scores from 0
(worst) to 100 (best).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from evalsvc.inputs.suite_entries import IndexPart
from evalsvc.metrics.score import Z95


class Scored(Protocol):
    """A value with an optional standard error, and what the choice of the reference's rows adds to it."""

    @property
    def value(self) -> float:
        """The value."""

    @property
    def stderr(self) -> float | None:
        """Its standard error; ``None`` if it is unknown."""

    @property
    def stderr_reference(self) -> float | None:
        """The standard error of the reference's rows; ``None`` if it is unknown."""


@dataclass(frozen=True)
class Part:
    """The contribution of one score: ``points`` from 0 to 100, clipped to that range; ``share`` of the total weight."""

    label: str
    points: float
    share: float


@dataclass(frozen=True)
class CompositeScore:
    """The composite index with its interval and its parts; without an interval if any score has no error."""

    value: float
    stderr: float | None
    parts: tuple[Part, ...]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval, with a coverage of at least 95 %."""
        if self.stderr is None:
            return None
        return max(0.0, self.value - Z95 * self.stderr), min(100.0, self.value + Z95 * self.stderr)


def overall(index: Mapping[str, IndexPart], scores: Mapping[str, Scored]) -> CompositeScore | None:
    """Compute the index of a checkpoint; ``None`` if the suite defines none or one of its scores is missing.

    Errors count the reference's rows where theirs is known. The scores come from the same samples and rows, so their
    errors are correlated in an unknown way. The error of the index is the weighted sum of theirs, an upper bound for
    every correlation.
    """
    if not index or not all(label in scores for label in index):
        return None
    total = sum(part.weight for part in index.values())
    parts, stderr = [], 0.0
    unsure = False
    for label, part in index.items():
        score, share, width = scores[label], part.weight / total, part.best - part.worst
        points = 100 * min(1.0, max(0.0, (score.value - part.worst) / width))
        parts.append(Part(label, points, share))
        unsure |= score.stderr is None
        stderr += share * 100 * math.hypot(score.stderr or 0.0, score.stderr_reference or 0.0) / abs(width)
    value = sum(part.share * part.points for part in parts)
    return CompositeScore(value, None if unsure else stderr, tuple(parts))
