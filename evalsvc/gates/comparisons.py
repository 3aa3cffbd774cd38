"""A limit against an estimate: the value, its difference from a baseline, or its ratio to one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evalsvc.analysis.differences import Errors
from evalsvc.gates.evidence import Evidence, Observation
from evalsvc.gates.policy import LimitKind


@dataclass(frozen=True)
class Comparison:
    """One limit set against one estimate: the value, the worsening, or the worsening as a share of the baseline.

    ``excess`` is how far the estimate lies beyond the limit on the bad side, in its own units. ``low`` and ``high``
    bound the estimate. ``errors`` are those of the excess: ``below`` towards the good, ``above`` the bad.
    ``allowance`` is what more samples may change the excess by.
    """

    label: str
    kind: LimitKind
    limit: float
    estimate: float
    low: float
    high: float
    excess: float
    errors: Errors
    allowance: float = 0.0

    def surely_beyond(self, z: float) -> bool:
        """Beyond the limit, ``z`` standard errors and the allowance taken off."""
        return self.excess - self.allowance - self.errors.widths(z)[0] > 0

    def surely_within(self, z: float) -> bool:
        """Within the limit, ``z`` standard errors and the allowance added."""
        return self.excess + self.allowance + self.errors.widths(z)[1] <= 0


def absolute(evidence: Evidence, seen: Observation, kind: LimitKind, limit: float, z: float) -> Comparison:
    """The value itself against a limit."""
    below, above = seen.below or 0.0, seen.above or 0.0
    inner, outer = (below, above) if kind == "max" else (above, below)
    errors = _errors(inner, outer, [(1.0, seen)])
    excess = seen.value - limit if kind == "max" else limit - seen.value
    good, bad = errors.widths(z)
    low, high = (seen.value - good, seen.value + bad) if kind == "max" else (seen.value - bad, seen.value + good)
    return Comparison(evidence.label, kind, limit, seen.value, low, high, excess, errors, _allowance(evidence, 0.0))


def worsening(evidence: Evidence, candidate: Observation, baseline: Observation, limit: float, z: float) -> Comparison:
    """The difference towards the bad side, as :func:`evalsvc.analysis.differences.difference` gives it to everybody."""
    value = (candidate.value - baseline.value) * _sign(evidence)
    errors = _gap(evidence, candidate, baseline, 1.0)
    good, bad = errors.widths(z)
    low, high = value - good, value + bad
    allowance = _allowance(evidence, 1.0)
    return Comparison(evidence.label, "max_worsening", limit, value, low, high, value - limit, errors, allowance)


def relative(evidence: Evidence, candidate: Observation, baseline: Observation, limit: float, z: float) -> Comparison:
    """The ratio less 1 towards the bad side, with Fieller's interval; the baseline must surely be above zero.

    A share of the baseline is another amount after all samples: its drift counts for the share that is allowed.
    """
    sign = _sign(evidence)
    c, b = candidate.value, baseline.value
    share = 1 + sign * limit
    excess = sign * (c - share * b)
    errors = _gap(evidence, candidate, baseline, share)
    estimate = sign * (c / b - 1) + 0.0
    if evidence.same:
        low = high = estimate
    else:
        vc, vb = ((uncertainty(side, z) / z) ** 2 for side in (candidate, baseline))
        own = [max(side.below or 0.0, side.above or 0.0) ** 2 for side in (candidate, baseline)]
        covariance = (sum(own) - max(_own(_gap(evidence, candidate, baseline, 1.0))) ** 2) / 2
        square, linear, free = b * b - z * z * vb, b * c - z * z * covariance, c * c - z * z * vc
        root = math.sqrt(max(0.0, linear * linear - square * free))
        low, high = sorted(sign * ((linear + side * root) / square - 1) + 0.0 for side in (-1, 1))
    allowance = _allowance(evidence, share)
    return Comparison(evidence.label, "max_worsening_rel", limit, estimate, low, high, excess, errors, allowance)


def _sign(evidence: Evidence) -> int:
    return 1 if evidence.direction == "lower" else -1


def _own(errors: Errors) -> tuple[float, float]:
    return errors.below, errors.above


def _gap(evidence: Evidence, candidate: Observation, baseline: Observation, times: float) -> Errors:
    """The errors of the candidate less ``times`` the baseline, towards the good and the bad side."""
    if evidence.same:
        return Errors(0.0, 0.0)
    gap = evidence.gap(times)
    if gap and gap.errors:
        return gap.errors if evidence.direction == "lower" else gap.errors.turned
    worse, other = (candidate, baseline) if evidence.direction == "lower" else (baseline, candidate)
    inner = math.hypot(worse.below or 0.0, other.above or 0.0)
    outer = math.hypot(worse.above or 0.0, other.below or 0.0)
    if times != 1.0:
        inner = outer = math.hypot(
            *(by * max(side.below or 0.0, side.above or 0.0) for by, side in ((1.0, candidate), (times, baseline)))
        )
    return _errors(inner, outer, [(1.0, candidate), (times, baseline)])


def uncertainty(side: Observation, z: float) -> float:
    """How far a side by itself is uncertain at ``z`` standard errors, on its wider side."""
    return max(_errors(side.below or 0.0, side.above or 0.0, [(1.0, side)]).widths(z))


def _errors(inner: float, outer: float, sides: list[tuple[float, Observation]]) -> Errors:
    """The errors of a weighted sum of sides.

    Degrees of freedom are Welch's, which keep the level for equal numbers of runs (0.010 to 0.020 of 0.025 at 2 to 4);
    for unequal ones they reach 0.034, and those of the fewer runs are taken. A side of one run has its own error as the
    spread, which is not estimated from runs.
    """
    total = lost = 0.0
    runs = {side.replicates for _, side in sides if side.replicates > 1}
    for weight, side in sides:
        own = 0.0 if side.shared else max(side.below or 0.0, side.above or 0.0)
        variance = (weight * (side.spread if side.replicates > 1 else own)) ** 2
        total += variance
        lost += variance**2 / (side.replicates - 1) if side.replicates > 1 else 0.0
    freedom = min(side.freedom for _, side in sides)
    if not lost:
        return Errors(inner, outer, freedom)
    of_runs = total**2 / lost if len(runs) == 1 else min(runs) - 1
    return Errors(inner, outer, freedom, math.sqrt(total), of_runs, any(side.shared for _, side in sides))


def _allowance(evidence: Evidence, weight: float) -> float:
    """What more samples may change: the drift of the candidate, and of the baseline by the weight it has."""
    allowance = 0.0
    for side, by in ((evidence.candidate, 1.0), (evidence.baseline, weight)):
        if evidence.partial and isinstance(side, Observation) and by:
            allowance += by * (math.inf if side.drift is None else side.drift)
    return allowance
