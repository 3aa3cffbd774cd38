"""The finding of one limit: its comparison, or the reason for its absence, and its status. A status starts as UNKNOWN,
and only a conclusive interval makes it PASS.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from evalsvc.analysis.leaderboard import differing_facts
from evalsvc.gates.comparisons import Comparison, absolute, distance, relative, uncertainty, worsening
from evalsvc.gates.evidence import Absent, Evidence, Observation
from evalsvc.gates.policy import LimitKind, MetricPolicy, Policy
from evalsvc.gates.sequential import FLOOR, SINGLE, Look


class Status(StrEnum):
    """Status of a metric or of the gate."""

    UNKNOWN = "UNKNOWN"
    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    MISSING = "MISSING"
    NOT_COMPARABLE = "NOT_COMPARABLE"
    ERROR = "ERROR"


NO_RIGHT_VALUE = (
    "it has no right value with an error: score it again, against a reference of at least as many samples as are scored"
)


@dataclass(frozen=True)
class Finding:
    """The result for one limit; ``comparison`` is ``None`` if the numbers do not permit one.

    A ``futile`` limit stays open for any number of samples.
    """

    kind: LimitKind
    limit: float
    status: Status
    reason: str
    comparison: Comparison | None = None
    futile: bool = False


def draft(
    policy: Policy, use: MetricPolicy, kind: LimitKind, limit: float, evidence: Evidence | None, z: float
) -> Finding:
    """The comparison of one limit, or the reason for its absence."""

    def without(status: Status, reason: str, *, futile: bool = False) -> Finding:
        return Finding(kind, limit, status, reason, futile=futile)

    sampled = policy.reference == "sampled"

    if evidence is None:
        return without(Status.MISSING, "no score has this name")
    candidate = evidence.candidate
    if isinstance(candidate, Absent):
        return without(status_of(candidate), f"candidate: {candidate.reason}")
    if not candidate.finite:
        return without(Status.ERROR, f"candidate: the value {candidate.value} is not finite")
    if not kind.startswith("max_worsening"):
        if candidate.below is None or candidate.above is None:
            return without(Status.INCONCLUSIVE, f"no error bar ({candidate.method}), so the limit cannot be decided")
        if sampled and candidate.stderr_reference is None:
            return without(Status.INCONCLUSIVE, _unknown_reference(candidate), futile=True)
        if kind == "max_distance_from_reference":
            if candidate.target is None or candidate.target_stderr is None:
                return without(Status.MISSING, NO_RIGHT_VALUE)
            near = distance(evidence, candidate, candidate.target, limit, z, sampled=sampled)
            return Finding(kind, limit, Status.UNKNOWN, "", near)
        return Finding(kind, limit, Status.UNKNOWN, "", absolute(evidence, candidate, kind, limit, z, sampled=sampled))
    baseline = evidence.baseline
    if baseline is None or (isinstance(baseline, Absent) and baseline.kind == "none"):
        reason = baseline.reason if baseline else "there is no baseline"
        if policy.on_missing_baseline == "absolute-only":
            return without(Status.UNKNOWN, f"not judged: {reason}")
        status = Status.MISSING if policy.on_missing_baseline == "fail" else Status.INCONCLUSIVE
        return without(status, reason)
    if isinstance(baseline, Absent):
        return without(status_of(baseline), f"baseline: {baseline.reason}")
    if not baseline.finite:
        return without(Status.ERROR, f"baseline: the value {baseline.value} is not finite")
    if baseline.protocol != candidate.protocol:
        return without(Status.NOT_COMPARABLE, differing_facts(candidate.facts, baseline.facts) or "other protocols")
    if evidence.direction == "neutral":
        return without(Status.ERROR, "it has no better direction, so it cannot worsen")
    if candidate.stderr is None or baseline.stderr is None:
        side = candidate if candidate.stderr is None else baseline
        return without(Status.INCONCLUSIVE, f"no error bar ({side.method}), so the limit cannot be decided")
    unknown = next((side for side in (candidate, baseline) if side.stderr_reference is None), None)
    if sampled and unknown and not evidence.same:
        return without(Status.INCONCLUSIVE, _unknown_reference(unknown), futile=True)
    if kind == "max_worsening":
        found = worsening(evidence, candidate, baseline, limit, z, sampled=sampled)
    elif baseline.value - uncertainty(baseline, z, sampled=sampled) <= 0:
        return without(
            Status.INCONCLUSIVE, "the baseline is not significantly above zero, so a relative worsening is undefined"
        )
    else:
        found = relative(evidence, candidate, baseline, limit, z, sampled=sampled)
    return Finding(kind, limit, Status.UNKNOWN, "", found)


def _unknown_reference(side: Observation) -> str:
    return (
        f"the error that the choice of the reference adds is unknown ({side.reference_method}), so the limit cannot be "
        "decided for references like it: 'reference: fixed' decides it for this one"
    )


def settle(
    policy: Policy, drafted: Finding, evidence: Evidence, z: float, alpha: float, *, final: bool, beyond: bool
) -> Finding:
    """The status of a limit that has a comparison."""
    comparison = drafted.comparison
    assert comparison is not None
    sides = [evidence.candidate] + ([evidence.baseline] if drafted.kind.startswith("max_worsening") else [])
    fewest = min(side.n for side in sides if isinstance(side, Observation))
    interval = f"{comparison.estimate:.4g} in [{comparison.low:.4g}, {comparison.high:.4g}], limit {comparison.limit:g}"
    if fewest < FLOOR or (fewest < policy.defaults.min_samples and not beyond):
        needed = max(FLOOR, policy.defaults.min_samples)
        status = Status.MISSING if final else Status.INCONCLUSIVE
        return Finding(drafted.kind, drafted.limit, status, f"{fewest} samples, but {needed} are required", comparison)
    if beyond:
        return Finding(drafted.kind, drafted.limit, Status.FAIL, f"surely beyond the limit: {interval}", comparison)
    if comparison.surely_within(z) and not evidence.partial:
        return Finding(drafted.kind, drafted.limit, Status.PASS, f"surely within the limit: {interval}", comparison)
    if comparison.futile(z, Look(fewest, 1, SINGLE).z(alpha)):
        assert isinstance(evidence.candidate, Observation)
        rows = evidence.candidate.reference_rows
        reason = (
            f"inconclusive: {interval}; more samples cannot decide it, because the choice of the reference"
            f"{f' of {rows:,} rows' if rows else ''} alone moves it by {z * comparison.errors.reference:.2g}"
        )
        return Finding(drafted.kind, drafted.limit, Status.INCONCLUSIVE, reason, comparison, futile=True)
    if evidence.partial:
        reason = f"its expectation depends on the number of samples, so only all samples can pass: {interval}"
        return Finding(drafted.kind, drafted.limit, Status.INCONCLUSIVE, reason, comparison)
    return Finding(drafted.kind, drafted.limit, Status.INCONCLUSIVE, f"inconclusive: {interval}", comparison)


def status_of(absent: Absent) -> Status:
    """The status that an absent score gives a metric."""
    if absent.kind == "outdated":
        return Status.NOT_COMPARABLE
    return Status.ERROR if absent.kind in ("error", "unavailable") else Status.MISSING
