"""Comparison of a limit with an estimate: the value, its difference from a baseline, or its ratio to a baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from evalsvc.analysis.differences import Errors, difference
from evalsvc.gates.evidence import Evidence, Observation
from evalsvc.gates.policy import LimitKind


@dataclass(frozen=True)
class Comparison:
    """One limit compared with one estimate: the value, the worsening, or the worsening as a fraction of the baseline.

    ``excess`` is the distance of the estimate beyond the limit, in the limit's units; negative within it. ``low`` and
    ``high`` bound the estimate. ``errors`` are the standard errors of the excess: ``below`` toward the better side,
    ``above`` toward the worse. ``allowance`` is the largest change of the excess that more samples may cause.
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
        """Whether the estimate exceeds the limit by more than ``z`` standard errors plus the allowance."""
        return self.excess - self.allowance - self.errors.widths(z)[0] > 0

    def surely_within(self, z: float) -> bool:
        """Whether the estimate plus ``z`` standard errors and the allowance stays within the limit."""
        return self.excess + self.allowance + self.errors.widths(z)[1] <= 0

    def futile(self, z: float, least: float) -> bool:
        """Whether more samples cannot decide the limit: wherever within ``z`` of its own errors the estimate would end,
        it stays within ``least`` errors of the reference, which samples do not reduce.
        """
        own = max(replace(self.errors, reference=0.0).widths(z))
        reference = least * self.errors.reference
        return 0 < reference >= abs(self.excess) + self.allowance + own


def absolute(
    evidence: Evidence, seen: Observation, kind: LimitKind, limit: float, z: float, *, sampled: bool = False
) -> Comparison:
    """Compare the value itself with a limit. ``sampled``: the reference's rows are a sample too."""
    errors = _own(seen, sampled=sampled)
    errors = errors if kind == "max" else errors.turned
    excess = seen.value - limit if kind == "max" else limit - seen.value
    good, bad = errors.widths(z)
    low, high = (seen.value - good, seen.value + bad) if kind == "max" else (seen.value - bad, seen.value + good)
    return Comparison(evidence.label, kind, limit, seen.value, low, high, excess, errors, _allowance(evidence, 0.0))


def distance(
    evidence: Evidence, seen: Observation, target: float, limit: float, z: float, *, sampled: bool = False
) -> Comparison:
    """Compare the distance from the right value, whose own error samples do not reduce, with a limit."""
    gap = seen.value - target
    errors = _own(seen, sampled=sampled)
    errors = replace(errors, reference=math.hypot(errors.reference, seen.target_stderr or 0.0))
    errors = errors if gap >= 0 else errors.turned
    near, far = errors.widths(z)
    if near > abs(gap):  # the value may lie on the other side, as far as its error that way
        errors = replace(errors, above=max(errors.above, errors.below))
        far = max(near, far)
    low, high = max(abs(gap) - near, 0.0), abs(gap) + far
    excess = abs(gap) - limit
    drift = (math.inf if seen.distance_drift is None else seen.distance_drift) if evidence.partial else 0.0
    kind: LimitKind = "max_distance_from_reference"
    return Comparison(evidence.label, kind, limit, abs(gap), low, high, excess, errors, drift)


def worsening(
    evidence: Evidence, candidate: Observation, baseline: Observation, limit: float, z: float, *, sampled: bool = False
) -> Comparison:
    """Compare the difference toward the worse side, by :func:`evalsvc.analysis.differences.difference`,
    with a limit.
    """
    value = (candidate.value - baseline.value) * _sign(evidence)
    errors = _gap(evidence, candidate, baseline, 1.0, sampled=sampled)
    good, bad = errors.widths(z)
    low, high = value - good, value + bad
    allowance = _allowance(evidence, 1.0)
    return Comparison(evidence.label, "max_worsening", limit, value, low, high, value - limit, errors, allowance)


def relative(
    evidence: Evidence, candidate: Observation, baseline: Observation, limit: float, z: float, *, sampled: bool = False
) -> Comparison:
    """Compare the ratio minus 1 toward the worse side with a limit, by Fieller's interval. The baseline must be
    significantly above zero.

    A fraction of the baseline is another amount after all samples, so the drift of the baseline counts in proportion to
    the allowed fraction.
    """
    sign = _sign(evidence)
    c, b = candidate.value, baseline.value
    share = 1 + sign * limit
    excess = sign * (c - share * b)
    errors = _gap(evidence, candidate, baseline, share, sampled=sampled)
    estimate = sign * (c / b - 1) + 0.0
    if evidence.same:
        low = high = estimate
    else:
        vc, vb = ((uncertainty(side, z, sampled=sampled) / z) ** 2 for side in (candidate, baseline))
        own = sum(_variance(_own(side, sampled=sampled)) for side in (candidate, baseline))
        covariance = (own - _variance(_gap(evidence, candidate, baseline, 1.0, sampled=sampled))) / 2
        square, linear, free = b * b - z * z * vb, b * c - z * z * covariance, c * c - z * z * vc
        root = math.sqrt(max(0.0, linear * linear - square * free))
        low, high = sorted(sign * ((linear + side * root) / square - 1) + 0.0 for side in (-1, 1))
    allowance = _allowance(evidence, share)
    return Comparison(evidence.label, "max_worsening_rel", limit, estimate, low, high, excess, errors, allowance)


def _sign(evidence: Evidence) -> int:
    return 1 if evidence.direction == "lower" else -1


def _own(side: Observation, *, sampled: bool) -> Errors:
    """The errors of a side by itself."""
    found = difference((), side.singles).errors if side.singles else None
    errors = found or _errors(side.below or 0.0, side.above or 0.0, [(1.0, side)])
    return replace(errors, reference=side.stderr_reference or 0.0) if sampled else errors


def _variance(errors: Errors) -> float:
    return max(errors.below, errors.above) ** 2 + errors.reference**2


def _gap(
    evidence: Evidence, candidate: Observation, baseline: Observation, times: float, *, sampled: bool = False
) -> Errors:
    """The errors of the candidate minus ``times`` the baseline, toward the better and the worse side."""
    if sampled:
        return replace(_gap(evidence, candidate, baseline, times), reference=evidence.reference_error(times))
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


def uncertainty(side: Observation, z: float, *, sampled: bool = False) -> float:
    """The half-width of a side's own interval at ``z`` standard errors, on its wider side."""
    return max(_own(side, sampled=sampled).widths(z))


def _errors(inner: float, outer: float, sides: list[tuple[float, Observation]]) -> Errors:
    """The errors of a weighted sum of sides.

    The degrees of freedom are Welch's, which keep the level for equal numbers of runs (0.010 to 0.020 of 0.025 at 2 to
    4). For unequal numbers the error rate reaches 0.034, so the degrees of freedom of the side with fewer runs are
    used. The spread of a side with one run is its own error, which is not estimated from runs.
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
    of_runs = total**2 / lost if len(runs) == 1 else min(runs) - 1.0
    return Errors(inner, outer, freedom, math.sqrt(total), of_runs, any(side.shared for _, side in sides))


def _allowance(evidence: Evidence, weight: float) -> float:
    """The change that more samples may cause: the drift of the candidate, plus that of the baseline times
    its weight.
    """
    allowance = 0.0
    for side, by in ((evidence.candidate, 1.0), (evidence.baseline, weight)):
        if evidence.partial and isinstance(side, Observation) and by:
            allowance += by * (math.inf if side.drift is None else side.drift)
    return allowance
