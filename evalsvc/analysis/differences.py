"""One difference for everybody: two sides, each one run or several, and how sure the gap between them is.

Units that both sides share (documents, prompts, the noise of a seed) are paired: their part of the variance is that of
the difference of influences. Units of one side alone are independent of all others. Runs without influences are
independent too, which is the wider claim for sides that share anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from evalsvc.core.columns import ScoreColumns
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.score import UNPAIRED, Z95, MetricError, Score


@dataclass(frozen=True)
class Run:
    """One score as one run found it, with its influence (or why there is none) and the name of its units.

    ``outdated`` says how its protocol differs from that of today.
    """

    value: float
    stderr: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    protocol: str
    facts: Mapping[str, Any]
    method: str
    run: int = 0
    seed: int = 0
    influence: Influence | str = field(default=UNPAIRED, compare=False, repr=False)
    units: str = ""
    outdated: str = ""

    @classmethod
    def of(cls, score: Score | ScoreColumns, protocol: str, facts: Mapping[str, Any], **more: Any) -> Run:
        """A score as a run; ``more`` are fields of this class that a score does not have."""
        values = (score.value, score.stderr, score.ci_low, score.ci_high, score.n)
        return cls(*values, protocol, facts, score.stderr_method, **more)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the standard error: few where it comes from groups of samples."""
        return self.influence.n - 1 if isinstance(self.influence, Influence) and self.influence.student else math.inf

    @property
    def sides(self) -> tuple[float, float] | None:
        """Standard errors towards lower and higher values: an interval that is wider on one side keeps that side."""
        if self.stderr is None or self.ci_low is None or self.ci_high is None:
            return None
        z = quantile(Z95, self.freedom)
        return max(self.stderr, (self.value - self.ci_low) / z), max(self.stderr, (self.ci_high - self.value) / z)


@dataclass(frozen=True)
class Errors:
    """Standard errors of an estimate towards lower (``below``) and higher values (``above``).

    They have ``freedom`` degrees of freedom. ``spread`` is what several runs show the error to be, with
    ``runs_freedom``; 0 where there is one run. Runs that ``share`` their units differ by their seeds alone, which then
    comes on top.
    """

    below: float
    above: float
    freedom: float = math.inf
    spread: float = 0.0
    runs_freedom: float = math.inf
    shared: bool = False

    @property
    def turned(self) -> Errors:
        """Those of the estimate with the opposite sign."""
        return replace(self, below=self.above, above=self.below)

    def widths(self, z: float) -> tuple[float, float]:
        """How far the estimate is uncertain, downwards and upwards, at the level of ``z`` normal standard errors.

        Few groups, and the spread between few runs, are themselves uncertain: Student's factor at that level. Where the
        spread contains the samples' own error, the larger of the two counts, which keeps the level whatever the true
        spread is.
        """
        own = quantile(z, self.freedom)
        if not self.spread:
            return own * self.below, own * self.above
        between = quantile(z, self.runs_freedom) * self.spread
        combine = math.hypot if self.shared else max
        return combine(own * self.below, between), combine(own * self.above, between)


@dataclass(frozen=True)
class Difference:
    """``b - times * a`` of one score.

    ``errors`` is ``None`` where a side has none. ``paired`` says whether units of both were paired, ``unpaired`` why
    not; ``units`` counts the independent units of a side, over all of its runs.
    """

    value: float
    errors: Errors | None
    paired: bool
    unpaired: str
    units: int

    @property
    def stderr(self) -> float | None:
        """The larger of the two errors, with the spread between runs."""
        if self.errors is None:
            return None
        return max(self.errors.widths(1.0)) if self.errors.spread else max(self.errors.below, self.errors.above)

    def interval(self, z: float = Z95) -> tuple[float, float] | None:
        """The interval at the level of ``z`` normal standard errors, by default 95 %."""
        if self.errors is None:
            return None
        down, up = self.errors.widths(z)
        return self.value - down, self.value + up


def under_fixed_prompts(run: Run) -> Run:
    """The run where its prompts are fixed: all that its error is of are the draws of each prompt.

    There is no error where a prompt has a single draw: other seeds alone can show it.
    """
    kind, _, prompts = run.units.partition("/")
    if kind != "prompts":
        return run
    draws = run.influence.of_draws if isinstance(run.influence, Influence) else None
    if draws is None:
        reason = "none: prompts are fixed, and how much single draws of a prompt differ is unknown"
        return replace(run, stderr=None, ci_low=None, ci_high=None, method=reason, influence=reason, units="")
    stderr = max(math.sqrt(draws.variance), draws.least)
    return replace(
        run,
        stderr=stderr,
        ci_low=run.value - Z95 * stderr,
        ci_high=run.value + Z95 * stderr,
        method="spread between draws of fixed prompts",
        influence=draws,
        units=f"draws/{run.seed}/{prompts}",
    )


def quantile(z: float, freedom: float) -> float:
    """Student's factor at the level of ``z`` normal standard errors."""
    if math.isinf(freedom):
        return z
    from scipy.special import ndtr, stdtrit  # a fifth of the time that a command takes to start

    return -float(stdtrit(freedom, float(ndtr(-z))))


def difference(a: Sequence[Run], b: Sequence[Run], times: float = 1.0) -> Difference:
    """How much the mean of the runs ``b`` exceeds ``times`` that of the runs ``a``.

    All are of one score under one protocol, those of a side with different seeds. A run differs from itself by nothing.
    Without ``a`` the difference is the mean of ``b`` itself.
    """
    value = _mean(b) - times * _mean(a)
    units = min(_units(side) for side in (a, b) if side)
    if times == 1 and {run.run for run in a} == {run.run for run in b} != {0}:
        return Difference(value, Errors(0.0, 0.0), True, "", units)
    parts = [_Part(run, 1 / len(b)) for run in b] + [_Part(run, -times / len(a)) for run in a]
    clusters: dict[str, list[_Part]] = {}
    for place, part in enumerate(parts):
        clusters.setdefault(part.run.units or f"alone {place}", []).append(part)
    found = [_variances(cluster) for cluster in clusters.values()]
    paired = any(each.paired for each in found)
    spread, runs_freedom = _spread(a, b, times)
    errors = Errors(
        below=math.sqrt(sum(each.below for each in found)),
        above=math.sqrt(sum(each.above for each in found)),
        freedom=min(part.run.freedom for part in parts),
        spread=spread,
        runs_freedom=runs_freedom,
        shared=_share_units(a) or _share_units(b),
    )
    unsure = any(len(side) == 1 and side[0].sides is None for side in (a, b)) or not (
        spread or all(part.run.sides for part in parts)
    )
    return Difference(value, None if unsure else errors, paired, "" if paired else _why_unpaired(a, b), units)


@dataclass(frozen=True)
class _Part:
    """A run with its weight in a difference."""

    run: Run
    weight: float

    @property
    def pairs(self) -> bool:
        """Whether it tells how each unit moves it."""
        return isinstance(self.run.influence, Influence)


@dataclass(frozen=True)
class _Variances:
    below: float
    above: float
    paired: bool = False


def _variances(cluster: Sequence[_Part]) -> _Variances:
    """Variances, downwards and upwards, that the runs over the same units bring into the difference."""
    plus, minus = (_Side.of([part for part in cluster if (part.weight > 0) is sign]) for sign in (True, False))
    apart = _Variances(plus.down**2 + minus.up**2, plus.up**2 + minus.down**2)
    if not (plus.known and minus.known):
        return apart
    if not (plus.variance and minus.variance):  # as of a share of 0, whose error is Wilson's
        return replace(apart, paired=True)
    try:
        together = _combined(cluster).variance
    except MetricError:  # found in other ways, as where one lacks what its metric could not find
        return apart
    influence = cluster[0].run.influence
    assert isinstance(influence, Influence)
    least = (influence.least * min(abs(part.weight) for part in cluster)) ** 2
    if influence.logarithmic:
        return _Variances(max(together, least), max(together, least), paired=True)
    # Square and add (Newcombe, 1998): a bound takes the errors of both ends that it comes from, less what they share.
    shared = (plus.variance + minus.variance - together) / math.sqrt(plus.variance * minus.variance)
    (down, up), (minus_down, minus_up) = plus.by_influence, minus.by_influence
    below = down**2 + minus_up**2 - shared * down * minus_up
    above = up**2 + minus_down**2 - shared * up * minus_down
    return _Variances(max(below, least), max(above, least), paired=True)


@dataclass(frozen=True)
class _Side:
    """A weighted sum of runs over the same units: its errors downwards and upwards, and its variance by influences.

    Without ``known`` influences the variance is 0.
    """

    down: float = 0.0
    up: float = 0.0
    stderr: float = 0.0
    variance: float = 0.0
    known: bool = False

    @classmethod
    def of(cls, parts: Sequence[_Part]) -> _Side:
        if not parts:
            return cls()
        weight = abs(sum(part.weight for part in parts))
        own = [part.run.sides or (0.0, 0.0) for part in parts]
        down, up = (weight * float(np.mean([side[i] for side in own])) for i in (0, 1))
        stderr = weight * float(np.mean([part.run.stderr or 0.0 for part in parts]))
        side = cls(down, up, stderr)
        if all(part.pairs for part in parts):
            with suppress(MetricError):
                side = replace(side, variance=_combined(parts).variance, known=True)
        if len(parts) == 1 or not side.variance:
            return side
        # Of a single run the error is its own; of several over the same units only the influences tell.
        down, up = side.by_influence
        return replace(side, down=down, up=up, stderr=math.sqrt(side.variance))

    @property
    def by_influence(self) -> tuple[float, float]:
        """The errors scaled to the variance by influences, which those of a difference are found from."""
        scale = math.sqrt(self.variance) / self.stderr if self.variance and self.stderr else 1.0
        return self.down * scale, self.up * scale


def _combined(parts: Sequence[_Part]) -> Influence:
    weighted = [part.run.influence.times(part.weight) for part in parts if isinstance(part.run.influence, Influence)]
    return reduce(lambda total, each: total.minus(each, -1.0), weighted)


def _spread(a: Sequence[Run], b: Sequence[Run], times: float) -> tuple[float, float]:
    """The error that seeds show the difference to have, and its degrees of freedom; 0 of single runs.

    Where both sides ran the same seeds, their differences are the runs. Else the degrees of freedom are Welch's, which
    keep the level for equal numbers of runs; of unequal ones those of the fewer runs are taken.
    """
    by_seed = [{run.seed: run.value for run in side} for side in (a, b)]
    if len(a) == len(b) == len(by_seed[0]) > 1 and by_seed[0].keys() == by_seed[1].keys():
        gaps = [value - times * by_seed[0][seed] for seed, value in by_seed[1].items()]
        return float(np.std(gaps, ddof=1)) / math.sqrt(len(gaps)), len(gaps) - 1
    total = lost = 0.0
    counts = {len(side) for side in (a, b) if len(side) > 1}
    for weight, side in ((times, a), (1.0, b)):
        if not side:
            continue
        if len(side) > 1:
            variance = weight**2 * float(np.var([run.value for run in side], ddof=1)) / len(side)
            lost += variance**2 / (len(side) - 1)
        else:
            variance = 0.0 if _share_units([*a, *b]) else (weight * max(side[0].sides or (0.0, 0.0))) ** 2
        total += variance
    if not lost:
        return 0.0, math.inf
    return math.sqrt(total), total**2 / lost if len(a) == len(b) else min(counts) - 1


def _share_units(side: Sequence[Run]) -> bool:
    """Whether several runs are over the same documents, which differ by their seeds alone.

    What a seed adds to all documents at once is in no influence, and comes on top.
    """
    named = [run.units for run in side if run.units.startswith("documents/")]
    return len(named) > len(set(named))


def _why_unpaired(a: Sequence[Run], b: Sequence[Run]) -> str:
    for run in (*a, *b):
        if isinstance(run.influence, str):
            return run.influence
    return "the two share no documents, prompts or noise"


def _units(side: Sequence[Run]) -> int:
    counts = {}
    for place, run in enumerate(side):
        counts[run.units or str(place)] = run.influence.n if isinstance(run.influence, Influence) else run.n
    return sum(counts.values())


def _mean(side: Sequence[Run]) -> float:
    return float(np.mean([run.value for run in side])) if side else 0.0
