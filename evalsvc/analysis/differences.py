"""The difference between two sides, each with one or several runs, and its uncertainty; used by every comparison.

Units that both sides share (documents, prompts, the noise of a seed) are paired: their contribution to the variance is
that of the difference of their influences. Units of only one side are independent of all others. Runs without
influences are treated as independent, which is conservative if the sides share units.

The rows of the reference are a sample too, and all runs share them. What their choice adds to the error is that of the
weighted sum of their influences on all runs: it cancels only as far as the rows move both sides alike, and more seeds
do not reduce it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from evalsvc.analysis.errors import Errors as Errors
from evalsvc.analysis.errors import Sides
from evalsvc.core.columns import ScoreColumns
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.inputs import INPUTS, Source
from evalsvc.metrics.score import UNPAIRED, Z95, MetricError, Reference, Score
from evalsvc.metrics.skewness import combined, quantile

BEFORE = "none: scored before errors of references were found; 'evalsvc rescore' finds them from stored arrays"
"""Why the error of a reference is unknown of an old score."""
REFERENCES = [each.name for each in INPUTS.values() if each.source is Source.REFERENCE]
"""Facts of a score that identify rows of its reference."""


def error_of_reference(score: Score | ScoreColumns, facts: Mapping[str, Any]) -> tuple[float | None, str]:
    """The error that redrawing the rows of the reference adds to a score, or why it is unknown, as of old scores."""
    if score.stderr_reference is None and not score.reference_method:
        return (None, BEFORE) if rows_of_reference(facts) else (0.0, "")
    return score.stderr_reference, score.reference_method


def rows_of_reference(facts: Mapping[str, Any]) -> str:
    """Digests of the reference's rows, if there are any; those of a likelihood are the units of its own error."""
    return "" if "kind" in facts else "-".join(str(facts[name])[:16] for name in REFERENCES if name in facts)


@dataclass(frozen=True)
class Run:
    """One score of one run, with its influence (or the reason for its absence) and the name of its units.

    ``outdated`` describes how its protocol differs from the current one. ``stderr_reference`` is what redrawing the
    rows of the reference adds to the error, ``None`` if ``reference_method`` says why it is unknown; ``reference`` is
    their influence, and runs with equal ``reference_units`` have the same rows in the same order. ``target`` is the
    right value, if there is one (:mod:`evalsvc.analysis.nearness`).
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
    skewness: float = 0.0
    stderr_reference: float | None = 0.0
    reference_method: str = ""
    reference: Influence | str = field(default="", compare=False, repr=False)
    reference_units: str = ""
    target: float | None = None
    target_stderr: float | None = None

    @classmethod
    def of(cls, score: Score | ScoreColumns, protocol: str, facts: Mapping[str, Any], **more: Any) -> Run:
        """A score as a run; ``more`` are fields of this class that a score does not have."""
        values = (score.value, score.stderr, score.ci_low, score.ci_high, score.n)
        stderr, method = error_of_reference(score, facts)
        found: dict[str, Any] = {name: getattr(score, name) for name in ("skewness", "target", "target_stderr")}
        found |= {"stderr_reference": stderr, "reference_method": method}
        if rows := rows_of_reference(facts):
            found["reference_units"] = f"reference/{rows}"
        if isinstance(score, Score):
            found["reference"] = score.reference
        return cls(*values, protocol, facts, score.stderr_method, **found | more)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the standard error: few if it comes from groups of samples."""
        return self.influence.freedom if isinstance(self.influence, Influence) else math.inf

    @property
    def sides(self) -> tuple[float, float] | None:
        """Standard errors toward lower and higher values: the asymmetric interval of a share stays asymmetric.

        Where ``skewness`` makes the interval asymmetric, both are the standard error.
        """
        if self.stderr is None or self.ci_low is None or self.ci_high is None:
            return None
        if self.skewness:
            return self.stderr, self.stderr
        z = quantile(Z95, self.freedom)
        return max(self.stderr, (self.value - self.ci_low) / z), max(self.stderr, (self.ci_high - self.value) / z)


@dataclass(frozen=True)
class Difference:
    """``b - times * a`` of one score.

    ``errors`` is ``None`` if a side has none. ``paired`` says whether units of both sides were paired, ``unpaired`` why
    not; ``units`` counts the independent units of a side over all of its runs. ``errors`` regard the reference as
    fixed; ``stderr_reference`` is what redrawing its rows adds, ``None`` where ``reference_method`` says why.
    """

    value: float
    errors: Errors | None
    paired: bool
    unpaired: str
    units: int
    stderr_reference: float | None = 0.0
    reference_method: str = ""

    @property
    def stderr(self) -> float | None:
        """The larger of the two errors, including the spread between runs."""
        if self.errors is None:
            return None
        return max(self.errors.widths(1.0)) if self.errors.spread else max(self.errors.below, self.errors.above)

    @property
    def sampled(self) -> Errors | None:
        """The errors with that of the reference; ``None`` if either is unknown."""
        if self.errors is None or self.stderr_reference is None:
            return None
        return replace(self.errors, reference=self.stderr_reference)

    def interval(self, z: float = Z95, reference: Reference = "fixed") -> tuple[float, float] | None:
        """The interval at the level of ``z`` normal standard errors, by default 95 %.

        ``reference`` chooses whether it is for this reference file, or counts its rows as a sample too; ``None`` if
        the error that it needs is unknown.
        """
        errors = self.errors if reference == "fixed" else self.sampled
        if errors is None:
            return None
        down, up = errors.widths(z)
        return self.value - down, self.value + up


def under_fixed_prompts(run: Run) -> Run:
    """The run with its prompts or items regarded as fixed: its error covers only the draws of each.

    The error is missing if one has a single draw, because then only other seeds can reveal it. Items in groups keep
    their error, which covers the choice of groups.
    """
    kind, _, prompts = run.units.partition("/")
    if kind not in ("prompts", "items"):
        return run
    draws = run.influence.of_draws if isinstance(run.influence, Influence) else None
    if draws is None:
        reason = "none: prompts are fixed, and single draws do not show how draws of a prompt differ"
        return replace(run, stderr=None, ci_low=None, ci_high=None, method=reason, influence=reason, units="")
    stderr = max(math.sqrt(draws.variance), draws.least)
    return replace(
        run,
        stderr=stderr,
        ci_low=run.value - Z95 * stderr,
        ci_high=run.value + Z95 * stderr,
        skewness=0.0,
        method="spread between draws of fixed prompts",
        influence=draws,
        units=f"draws/{run.seed}/{prompts}",
    )


def difference(a: Sequence[Run], b: Sequence[Run], times: float = 1.0) -> Difference:
    """How much the mean of the runs ``b`` exceeds ``times`` the mean of the runs ``a``.

    All runs have one score and protocol, and the runs of a side have different seeds. The difference of a run from
    itself is exactly 0. If ``a`` is empty, the difference is the mean of ``b``.
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
    variance = sum(each.below for each in found)
    skewed = variance > 0 and any(part.run.skewness for part in parts)
    of_b, of_a = (combined([each.sides[i] for each in found]) for i in (0, 1))
    errors = Errors(
        below=math.sqrt(sum(each.below for each in found)),
        above=math.sqrt(sum(each.above for each in found)),
        freedom=min(part.run.freedom for part in parts),
        spread=spread,
        runs_freedom=runs_freedom,
        shared=_share_units(a) or _share_units(b),
        sides=Sides.of(of_b, of_a, variance) if skewed else None,
    )
    unsure = any(len(side) == 1 and side[0].sides is None for side in (a, b)) or not (
        spread or all(part.run.sides for part in parts)
    )
    why = "" if paired else _why_unpaired(a, b)
    return Difference(value, None if unsure else errors, paired, why, units, *_of_reference(parts))


@dataclass(frozen=True)
class _Part:
    """A run with its weight in a difference."""

    run: Run
    weight: float

    @property
    def pairs(self) -> bool:
        """Whether the run has influences, which pairing needs."""
        return isinstance(self.run.influence, Influence)


@dataclass(frozen=True)
class _Variances:
    """Variances toward lower and higher values; weight, standard error and skewness of ``b`` and of ``a``."""

    below: float
    above: float
    sides: tuple[tuple[float, float, float], tuple[float, float, float]]
    paired: bool = False


def _variances(cluster: Sequence[_Part]) -> _Variances:
    """Variances, downwards and upwards, that the runs over the same units contribute to the difference."""
    plus, minus = (_Side.of([part for part in cluster if (part.weight > 0) is sign]) for sign in (True, False))
    sides = plus.moments, minus.moments
    apart = _Variances(plus.down**2 + minus.up**2, plus.up**2 + minus.down**2, sides)
    if not (plus.known and minus.known):
        return apart
    if not (plus.variance and minus.variance):  # as for a proportion of 0, whose error is Wilson's
        return replace(apart, paired=True)
    try:
        together = _combined(cluster).variance
    except MetricError:  # computed in different ways, such as when one lacks a value that its metric could not compute
        return apart
    influence = cluster[0].run.influence
    assert isinstance(influence, Influence)
    least = (influence.least * min(abs(part.weight) for part in cluster)) ** 2
    if influence.logarithmic:
        return _Variances(max(together, least), max(together, least), sides, paired=True)
    # Square and add (Newcombe, 1998): a bound combines the errors of both ends that it depends on, minus their
    # covariance.
    shared = (plus.variance + minus.variance - together) / math.sqrt(plus.variance * minus.variance)
    (down, up), (minus_down, minus_up) = plus.by_influence, minus.by_influence
    below = down**2 + minus_up**2 - shared * down * minus_up
    above = up**2 + minus_down**2 - shared * up * minus_down
    return _Variances(max(below, least), max(above, least), sides, paired=True)


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
    skewness: float = 0.0

    @classmethod
    def of(cls, parts: Sequence[_Part]) -> _Side:
        if not parts:
            return cls()
        weight = abs(sum(part.weight for part in parts))
        own = [part.run.sides or (0.0, 0.0) for part in parts]
        down, up = (weight * float(np.mean([side[i] for side in own])) for i in (0, 1))
        stderr = weight * float(np.mean([part.run.stderr or 0.0 for part in parts]))
        side = cls(down, up, stderr, skewness=float(np.mean([part.run.skewness for part in parts])))
        if all(part.pairs for part in parts):
            with suppress(MetricError):
                side = replace(side, variance=_combined(parts).variance, known=True)
        if len(parts) == 1 or not side.variance:
            return side
        # The error of a single run is its own; the error of several runs over the same units requires influences.
        down, up = side.by_influence
        return replace(side, down=down, up=up, stderr=math.sqrt(side.variance))

    @property
    def moments(self) -> tuple[float, float, float]:
        """Weight, standard error and skewness."""
        return 1.0, math.sqrt(self.variance) or self.stderr, self.skewness

    @property
    def by_influence(self) -> tuple[float, float]:
        """The errors scaled to the variance by influences, from which the errors of a difference are computed."""
        scale = math.sqrt(self.variance) / self.stderr if self.variance and self.stderr else 1.0
        return self.down * scale, self.up * scale


def _combined(parts: Sequence[_Part]) -> Influence:
    return _sum([(part.run.influence, part.weight) for part in parts if isinstance(part.run.influence, Influence)])


def _sum(weighted: Sequence[tuple[Influence, float]]) -> Influence:
    return reduce(lambda total, each: total.minus(each, -1.0), [each.times(weight) for each, weight in weighted])


def _of_reference(parts: Sequence[_Part]) -> tuple[float | None, str]:
    """The standard error that the choice of the reference's rows adds to the difference, or the reason for its absence.

    Runs whose influences are missing may depend on the same rows in opposite ways, so their errors are added up.
    """
    clusters: dict[str, list[tuple[Influence, float]]] = {}
    loose = variance = 0.0
    for part in parts:
        run = part.run
        if run.stderr_reference is None:
            return None, run.reference_method
        if isinstance(run.reference, Influence) and run.reference_units:
            clusters.setdefault(run.reference_units, []).append((run.reference, part.weight))
        else:
            loose += abs(part.weight) * run.stderr_reference
    for weighted in clusters.values():
        try:
            variance += _sum(weighted).variance
        except MetricError:  # found in different ways, as by two versions of a metric's error
            loose += sum(abs(weight) * math.sqrt(each.variance) for each, weight in weighted)
    return loose + math.sqrt(variance), ""


def _spread(a: Sequence[Run], b: Sequence[Run], times: float) -> tuple[float, float]:
    """The error of the difference estimated from seeds, and its degrees of freedom; 0 for single runs.

    If both sides used the same seeds, the differences per seed are the observations. Otherwise the degrees of freedom
    are Welch's, which keep the level for equal numbers of runs; for unequal numbers, those of the side with fewer runs
    are used.
    """
    by_seed = [{run.seed: run.value for run in side} for side in (a, b)]
    if len(a) == len(b) == len(by_seed[0]) > 1 and by_seed[0].keys() == by_seed[1].keys():
        gaps = [value - times * by_seed[0][seed] for seed, value in by_seed[1].items()]
        return float(np.std(gaps, ddof=1)) / math.sqrt(len(gaps)), len(gaps) - 1.0
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
    return math.sqrt(total), total**2 / lost if len(a) == len(b) else min(counts) - 1.0


def _share_units(side: Sequence[Run]) -> bool:
    """Whether several runs cover the same documents and differ only by their seeds.

    The effect of a seed on all documents at once is not part of any influence, so it is added.
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
