"""Derive a verdict from evidence: pure functions. A status starts as UNKNOWN, and only a conclusive interval makes it
PASS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from evalsvc.analysis.leaderboard import differing_facts
from evalsvc.gates.comparisons import Comparison, absolute, relative, uncertainty, worsening
from evalsvc.gates.evidence import Absent, Evidence, Observation
from evalsvc.gates.policy import LimitKind, MetricPolicy, Policy, Tier, Waiver
from evalsvc.gates.sequential import FLOOR, Look


class Status(StrEnum):
    """Status of a metric or of the gate."""

    UNKNOWN = "UNKNOWN"
    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    MISSING = "MISSING"
    NOT_COMPARABLE = "NOT_COMPARABLE"
    ERROR = "ERROR"


# Missing results outweigh judged ones, so that turning failures into warnings does not hide them.
SEVERITY = (
    Status.ERROR,
    Status.NOT_COMPARABLE,
    Status.MISSING,
    Status.FAIL,
    Status.INCONCLUSIVE,
    Status.PASS,
    Status.UNKNOWN,
)
CODES = {Status.PASS: 0, Status.FAIL: 3, Status.INCONCLUSIVE: 4, Status.MISSING: 5, Status.NOT_COMPARABLE: 7}
CRASH, UNAVAILABLE = 1, 6


@dataclass(frozen=True)
class Finding:
    """The result for one limit; ``comparison`` is ``None`` if the numbers do not permit one."""

    kind: LimitKind
    limit: float
    status: Status
    reason: str
    comparison: Comparison | None = None


@dataclass(frozen=True)
class MetricVerdict:
    """The result for one metric: its most severe finding."""

    label: str
    tier: Tier
    status: Status
    findings: tuple[Finding, ...]
    reason: str
    waiver: Waiver | None = None

    @property
    def matters(self) -> bool:
        """Whether the metric can affect the gate."""
        return self.tier != "advisory" and self.waiver is None

    @property
    def blocks(self) -> bool:
        """Whether the metric prevents the gate from passing."""
        return self.matters and self.status in _blocking(self.tier)


@dataclass(frozen=True)
class Verdict:
    """The result of a gate."""

    status: Status
    metrics: tuple[MetricVerdict, ...]
    reason: str
    warnings: tuple[str, ...]
    unavailable: bool = False

    def exit_code(self, policy: Policy, *, warn_only: bool = False) -> int:
        """0 passed, 3 failed, 4 inconclusive, 5 missing, 7 not comparable, 6 unavailable, 1 any other error."""
        softened = {Status.FAIL, Status.INCONCLUSIVE} if warn_only else set()
        if policy.on_inconclusive.then == "warn":
            softened.add(Status.INCONCLUSIVE)
        if self.status in softened:
            return 0
        return CODES.get(self.status, UNAVAILABLE if self.unavailable else CRASH)


def judge(policy: Policy, evidence: Mapping[str, Evidence], look: Look, today: date, *, final: bool = True) -> Verdict:
    """Judge the evidence of a ``look``; ``final`` if no further look will follow.

    Failures are corrected over all limits that can fail the gate together (Holm), so that more limits do not cause more
    false alarms. Passing needs no correction: every limit must hold at the full level.
    """
    alpha = (1 - policy.defaults.confidence) / 2
    passing = look.z(alpha)
    drafts = {
        name: [_draft(policy, use, kind, limit, evidence.get(name), passing) for kind, limit in use.limits.items()]
        for name, use in policy.metrics.items()
    }
    strict = [name for name, use in policy.metrics.items() if use.tier != "advisory"]
    comparisons = [finding.comparison for name in strict for finding in drafts[name] if finding.comparison]
    count = policy.family if policy.defaults.correction == "holm" else 1
    beyond = _surely_beyond(comparisons, count, alpha, look)
    metrics = []
    for name, use in policy.metrics.items():
        found = tuple(
            _settle(
                policy,
                finding,
                evidence[name],
                passing,
                final,
                finding.comparison in beyond or _lone(use, finding, passing),
            )
            if finding.comparison
            else finding
            for finding in drafts[name]
        )
        metrics.append(_metric(policy, name, use, found, evidence.get(name), today))
    return _gate(policy, metrics, evidence, today)


def _lone(use: MetricPolicy, finding: Finding, z: float) -> bool:
    """Advisory limits cannot fail the gate, so they are outside the family."""
    return use.tier == "advisory" and finding.comparison is not None and finding.comparison.surely_beyond(z)


def _surely_beyond(comparisons: Iterable[Comparison], count: int, alpha: float, look: Look) -> set[Comparison]:
    """Holm's step-down procedure over ``count`` limits: every rejection leaves more of the level for the rest."""
    beyond: set[Comparison] = set()
    left = set(comparisons)
    while True:
        z = look.z(alpha / max(count - len(beyond), 1))
        more = {comparison for comparison in left if comparison.surely_beyond(z)}
        if not more:
            return beyond
        beyond |= more
        left -= more


def _draft(
    policy: Policy, use: MetricPolicy, kind: LimitKind, limit: float, evidence: Evidence | None, z: float
) -> Finding:
    """The comparison of one limit, or the reason for its absence."""

    def without(status: Status, reason: str) -> Finding:
        return Finding(kind, limit, status, reason)

    if evidence is None:
        return without(Status.MISSING, "no score has this name")
    candidate = evidence.candidate
    if isinstance(candidate, Absent):
        return without(_status(candidate), f"candidate: {candidate.reason}")
    if not candidate.finite:
        return without(Status.ERROR, f"candidate: the value {candidate.value} is not finite")
    if not kind.startswith("max_worsening"):
        if candidate.below is None or candidate.above is None:
            return without(Status.INCONCLUSIVE, f"no error bar ({candidate.method}), so the limit cannot be decided")
        return Finding(kind, limit, Status.UNKNOWN, "", absolute(evidence, candidate, kind, limit, z))
    baseline = evidence.baseline
    if baseline is None or (isinstance(baseline, Absent) and baseline.kind == "none"):
        reason = baseline.reason if baseline else "there is no baseline"
        if policy.on_missing_baseline == "absolute-only":
            return without(Status.UNKNOWN, f"not judged: {reason}")
        status = Status.MISSING if policy.on_missing_baseline == "fail" else Status.INCONCLUSIVE
        return without(status, reason)
    if isinstance(baseline, Absent):
        return without(_status(baseline), f"baseline: {baseline.reason}")
    if not baseline.finite:
        return without(Status.ERROR, f"baseline: the value {baseline.value} is not finite")
    if baseline.protocol != candidate.protocol:
        return without(Status.NOT_COMPARABLE, differing_facts(candidate.facts, baseline.facts) or "other protocols")
    if evidence.direction == "neutral":
        return without(Status.ERROR, "it has no better direction, so it cannot worsen")
    if candidate.stderr is None or baseline.stderr is None:
        side = candidate if candidate.stderr is None else baseline
        return without(Status.INCONCLUSIVE, f"no error bar ({side.method}), so the limit cannot be decided")
    if kind == "max_worsening":
        return Finding(kind, limit, Status.UNKNOWN, "", worsening(evidence, candidate, baseline, limit, z))
    if baseline.value - uncertainty(baseline, z) <= 0:
        return without(
            Status.INCONCLUSIVE, "the baseline is not significantly above zero, so a relative worsening is undefined"
        )
    return Finding(kind, limit, Status.UNKNOWN, "", relative(evidence, candidate, baseline, limit, z))


def _settle(policy: Policy, draft: Finding, evidence: Evidence, z: float, final: bool, beyond: bool) -> Finding:
    """The status of a limit that has a comparison."""
    comparison = draft.comparison
    assert comparison is not None
    sides = [evidence.candidate] + ([evidence.baseline] if draft.kind.startswith("max_worsening") else [])
    fewest = min(side.n for side in sides if isinstance(side, Observation))
    interval = f"{comparison.estimate:.4g} in [{comparison.low:.4g}, {comparison.high:.4g}], limit {comparison.limit:g}"
    if fewest < FLOOR or (fewest < policy.defaults.min_samples and not beyond):
        needed = max(FLOOR, policy.defaults.min_samples)
        status = Status.MISSING if final else Status.INCONCLUSIVE
        return Finding(draft.kind, draft.limit, status, f"{fewest} samples, but {needed} are required", comparison)
    if beyond:
        return Finding(draft.kind, draft.limit, Status.FAIL, f"surely beyond the limit: {interval}", comparison)
    if evidence.partial:
        reason = f"its expectation depends on the number of samples, so only all samples can pass: {interval}"
        return Finding(draft.kind, draft.limit, Status.INCONCLUSIVE, reason, comparison)
    if comparison.surely_within(z):
        return Finding(draft.kind, draft.limit, Status.PASS, f"surely within the limit: {interval}", comparison)
    return Finding(draft.kind, draft.limit, Status.INCONCLUSIVE, f"inconclusive: {interval}", comparison)


def _metric(
    policy: Policy, name: str, use: MetricPolicy, found: tuple[Finding, ...], evidence: Evidence | None, today: date
) -> MetricVerdict:
    status, reason = Status.UNKNOWN, "reported only: it has no limit"
    judged = [finding for finding in found if finding.status is not Status.UNKNOWN]
    if judged:
        worst = min(judged, key=lambda finding: SEVERITY.index(finding.status))
        status, reason = worst.status, worst.reason
    elif found:
        status = Status.MISSING if use.tier == "critical" else Status.INCONCLUSIVE
        reason = f"{found[0].reason}; it has no absolute limit"
    elif evidence is None or isinstance(evidence.candidate, Absent):
        status = _status(evidence.candidate) if evidence and isinstance(evidence.candidate, Absent) else Status.MISSING
        reason = "no value"
    waiver = None
    if status in (Status.FAIL, Status.INCONCLUSIVE):
        valid = [waiver for waiver in policy.valid_waivers(today) if waiver.metric == name]
        waiver = max(valid, key=lambda waiver: waiver.expires, default=None)
    return MetricVerdict(name, use.tier, status, found, reason, waiver)


def _gate(policy: Policy, metrics: list[MetricVerdict], evidence: Mapping[str, Evidence], today: date) -> Verdict:
    blocking = [metric for metric in metrics if metric.blocks]
    status = min((metric.status for metric in blocking), key=SEVERITY.index, default=Status.UNKNOWN)
    if blocking:
        reason = "; ".join(f"{metric.label}: {metric.reason}" for metric in blocking if metric.status is status)
    elif any(metric.tier == "critical" and metric.status is Status.PASS for metric in metrics):
        status, reason = Status.PASS, "every required metric surely holds its limits"
    else:
        status, reason = Status.MISSING, "no critical metric was decided: all of them are waived"
    absent = [
        side for each in evidence.values() for side in (each.candidate, each.baseline) if isinstance(side, Absent)
    ]
    unavailable = any(side.kind == "unavailable" for side in absent)
    return Verdict(status, tuple(metrics), reason, tuple(_warnings(policy, metrics, evidence, today)), unavailable)


def _warnings(
    policy: Policy, metrics: list[MetricVerdict], evidence: Mapping[str, Evidence], today: date
) -> Iterable[str]:
    for waiver in policy.waivers:
        if waiver.expires < today:
            yield f"the waiver for {waiver.metric} expired on {waiver.expires}"
    for metric in metrics:
        if metric.waiver:
            yield (
                f"{metric.label} is {metric.status} and waived by {metric.waiver.by} until {metric.waiver.expires}: "
                f"{metric.waiver.reason}"
            )
        elif metric.tier == "supporting" and metric.status is Status.INCONCLUSIVE:
            yield f"{metric.label} is inconclusive, which a supporting metric may be ({metric.reason})"
        elif metric.tier == "advisory" and metric.status not in (Status.PASS, Status.UNKNOWN):
            yield f"{metric.label} is {metric.status} and only advisory ({metric.reason})"
    seen = [side for each in evidence.values() for side in (each.candidate, each.baseline)]
    if any(isinstance(side, Observation) and side.replicates == 1 for side in seen):
        yield (
            "one seed: these intervals cover the spread between samples but not between seeds "
            "(raise on_inconclusive.more_samples, or score further seeds with --seed)"
        )


def _blocking(tier: Tier) -> set[Status]:
    holes = {Status.ERROR, Status.NOT_COMPARABLE, Status.MISSING, Status.FAIL}
    return holes | {Status.INCONCLUSIVE} if tier == "critical" else holes


def _status(absent: Absent) -> Status:
    if absent.kind == "outdated":
        return Status.NOT_COMPARABLE
    return Status.ERROR if absent.kind in ("error", "unavailable") else Status.MISSING
