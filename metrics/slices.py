"""Slices of a score: the same score of the rows with one tag, and the worst of them with an interval for the worst."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Int64

from evalsvc.metrics.influence import Influence
from evalsvc.metrics.intervals import TAIL, bounds, student
from evalsvc.metrics.members import BINOMIAL, SMOOTH
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction, Score
from evalsvc.metrics.units import Units

MINIMUM = 20
"""Least number of independent units of a slice; smaller ones are counted and not scored."""
MOST = 1000
"""Largest number of slices of a score."""

Rows: TypeAlias = Int64[np.ndarray, " _"]


def rows_by_tag(tags: Sequence[str]) -> dict[str, Rows]:
    """The rows with each tag, ascending, in the order of the tags."""
    names = sorted(set(tags))
    places = {name: place for place, name in enumerate(names)}
    codes = np.fromiter((places[tag] for tag in tags), np.int64, len(tags))
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    return dict(zip(names, np.split(np.argsort(codes, kind="stable"), ends[:-1]), strict=True)) if names else {}


def independent(score: Score) -> int:
    """Number of independent units behind a score."""
    return int(score.details.get("groups", score.n))


def of_all(score: Score, rows: Rows, every: Units) -> Score:
    """A score of some of the rows, with influences of the units of all rows: others move it by nothing."""
    mine = score.influence
    if isinstance(mine, str):
        return score
    owner = rows if every.owner is None else every.owner[rows]
    distinct = np.unique(owner)
    at = owner if len(distinct) == len(owner) else distinct
    assert mine.whole is not None
    influence = replace(
        mine,
        n=every.count,
        whole=_spread(mine.whole, at, every.count),
        within=None if mine.within is None else _spread(mine.within, rows, every.rows),
        members=mine.members or mine.n,
    )
    return replace(score, influence=influence)


def _spread(psi: Float32[np.ndarray, " k"], at: Rows, count: int) -> Float32[np.ndarray, " n"]:
    """Influences at these places of ``count``, scaled so that their variance stays."""
    spread, few = np.zeros(count, np.float32), len(psi)
    spread[at] = psi * np.float32(math.sqrt(count * max(1, count - 1) / (few * max(1, few - 1))))
    return spread


def worst(scores: Mapping[str, Score], quantity: Quantity) -> tuple[str, Score] | None:
    """The tag of the worst of several slices, and its score with an interval for the worst true value of all.

    The worst value found is too bad on average, as that of the unluckiest slice. The end toward worse values is the
    worst such end of any slice's own interval, since that of the slice that is truly worst covers its value. The end
    toward better values is the worst of those at 1 / slices of the error (Bonferroni). Together they cover the worst
    true value with 0.95 or more, for any dependence of the slices. ``None`` without slices, or without a direction.
    """
    if not scores or quantity.direction is Direction.NEUTRAL:
        return None
    sign = 1 if quantity.direction is Direction.HIGHER else -1
    tag = min(scores, key=lambda each: sign * scores[each].value)
    found = scores[tag]
    details = MappingProxyType({**found.details, "slices": float(len(scores))})
    unsure = [each for each in scores.values() if each.stderr is None]
    if unsure:
        reason = f"none: {len(unsure)} of {len(scores)} slices have no error"
        found = replace(found, stderr=None, ci_low=None, ci_high=None, influence=reason)
        return tag, replace(found, stderr_method=reason, details=details)
    ends = [_ends(each, quantity, TAIL / len(scores)) for each in scores.values()]
    own = [(each.ci_low or 0.0, each.ci_high or 0.0) for each in scores.values()]
    if sign > 0:
        low, high = min(low for low, _ in own), min(high for _, high in ends)
    else:
        low, high = max(low for low, _ in ends), max(high for _, high in own)
    low, high = min(low, found.value), max(high, found.value)
    method = f"worst of {len(scores)} slices, simultaneous; {found.stderr_method}"
    return tag, replace(found, ci_low=low, ci_high=high, stderr_method=method, details=details)


def _ends(score: Score, quantity: Quantity, tail: float) -> tuple[float, float]:
    """The interval of a slice with this probability beyond each end."""
    influence = score.influence
    members = independent(score)
    if isinstance(influence, Influence):
        members = influence.members or influence.n
    assert score.stderr is not None
    assert score.ci_low is not None
    assert score.ci_high is not None
    if score.stderr_method.startswith((SMOOTH, BINOMIAL)):
        binomial = score.stderr_method.startswith(BINOMIAL)
        low, high = bounds(score.value, score.stderr, members, (quantity.low, quantity.high), tail, binomial=binomial)
    else:
        wider = student(members, tail) / student(members)
        low = score.value - wider * (score.value - score.ci_low)
        high = score.value + wider * (score.ci_high - score.value)
    return max(low, quantity.low), min(high, quantity.high)
