"""A limit against an estimate: the value, its difference from a baseline, or its ratio to one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evalsvc.gates.evidence import Evidence, Observation
from evalsvc.gates.policy import LimitKind


@dataclass(frozen=True)
class Comparison:
    """One limit set against one estimate: the value, the worsening, or the worsening as a share of the baseline.

    ``excess`` is how far the estimate lies beyond the limit on the bad side, in its own units, ``inner`` and
    ``outer`` its standard errors towards the good and the bad side. ``low`` and ``high`` bound the estimate.
    """

    label: str
    kind: LimitKind
    limit: float
    estimate: float
    low: float
    high: float
    excess: float
    inner: float
    outer: float
    allowance: float = 0.0

    def surely_beyond(self, z: float) -> bool:
        """Beyond the limit, ``z`` standard errors and the allowance taken off."""
        return self.excess - self.allowance - z * self.inner > 0

    def surely_within(self, z: float) -> bool:
        """Within the limit, ``z`` standard errors and the allowance added."""
        return self.excess + self.allowance + z * self.outer <= 0


def absolute(evidence: Evidence, seen: Observation, kind: LimitKind, limit: float, z: float) -> Comparison:
    """The value itself against a limit. Drift to all samples is allowed for, in both directions."""
    below, above = seen.below or 0.0, seen.above or 0.0
    allowance = 0.0
    if evidence.partial and evidence.drift:
        allowance = abs(evidence.drift.value)
        below, above = math.hypot(below, evidence.drift.stderr), math.hypot(above, evidence.drift.stderr)
    excess, inner, outer = (seen.value - limit, below, above) if kind == "max" else (limit - seen.value, above, below)
    low, high = seen.value - z * below, seen.value + z * above
    return Comparison(evidence.label, kind, limit, seen.value, low, high, excess, inner, outer, allowance)


def worsening(evidence: Evidence, candidate: Observation, baseline: Observation, limit: float, z: float) -> Comparison:
    """The difference towards the bad side; each bound takes the errors of the sides it lies on."""
    worse, other = (candidate, baseline) if evidence.direction == "lower" else (baseline, candidate)
    value = worse.value - other.value
    shared = 2 * evidence.covariance
    inner = math.sqrt(max(0.0, (worse.below or 0.0) ** 2 + (other.above or 0.0) ** 2 - shared))
    outer = math.sqrt(max(0.0, (worse.above or 0.0) ** 2 + (other.below or 0.0) ** 2 - shared))
    low, high = value - z * inner, value + z * outer
    allowance = _change(evidence, value, baseline)
    return Comparison(evidence.label, "max_worsening", limit, value, low, high, value - limit, inner, outer, allowance)


def relative(evidence: Evidence, candidate: Observation, baseline: Observation, limit: float, z: float) -> Comparison:
    """The ratio less 1 towards the bad side, with Fieller's interval; the baseline must surely be above zero.

    A share of the baseline is another amount after all samples: its own drift is allowed for beside that of the gap.
    """
    sign = 1 if evidence.direction == "lower" else -1
    c, b = candidate.value, baseline.value
    vc, vb = (candidate.stderr or 0.0) ** 2, (baseline.stderr or 0.0) ** 2
    shared = evidence.covariance
    share = 1 + sign * limit
    excess = sign * (c - share * b)
    stderr = math.sqrt(max(0.0, vc + share**2 * vb - 2 * share * shared))
    allowance = _change(evidence, c - b, baseline)
    if evidence.partial and evidence.drift:
        allowance += limit * abs(evidence.drift.value)
        stderr = math.hypot(stderr, limit * evidence.drift.stderr)
    square, linear, free = b * b - z * z * vb, b * c - z * z * shared, c * c - z * z * vc
    root = math.sqrt(max(0.0, linear * linear - square * free))
    low, high = sorted(sign * ((linear + side * root) / square - 1) + 0.0 for side in (-1, 1))
    estimate = sign * (c / b - 1) + 0.0
    return Comparison(
        evidence.label, "max_worsening_rel", limit, estimate, low, high, excess, stderr, stderr, allowance
    )


def _change(evidence: Evidence, gap: float, baseline: Observation) -> float:
    """What a gap may change by on the way to all samples: by as large a share as the baseline's own score does."""
    if not evidence.partial or evidence.drift is None or gap == 0:
        return 0.0
    return abs(gap * evidence.drift.value / baseline.value) if baseline.value else math.inf
