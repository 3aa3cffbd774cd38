"""Derive a verdict from the findings of all limits: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from evalsvc.gates.comparisons import Comparison
from evalsvc.gates.evidence import Absent, Evidence, Observation
from evalsvc.gates.findings import Finding, draft, settle, status_of
from evalsvc.gates.findings import Status as Status
from evalsvc.gates.policy import MetricPolicy, Policy, Tier, Waiver
from evalsvc.gates.sequential import Look

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
    def open(self) -> bool:
        """Whether more samples may decide the metric."""
        undecided = [each for each in self.findings if each.status is Status.INCONCLUSIVE]
        return self.matters and any(not each.futile for each in undecided)

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
        name: [draft(policy, use, kind, limit, evidence.get(name), passing) for kind, limit in use.limits.items()]
        for name, use in policy.metrics.items()
    }
    strict = [name for name, use in policy.metrics.items() if use.tier != "advisory"]
    comparisons = [finding.comparison for name in strict for finding in drafts[name] if finding.comparison]
    count = policy.family if policy.defaults.correction == "holm" else 1
    beyond = _surely_beyond(comparisons, count, alpha, look)
    metrics = []
    for name, use in policy.metrics.items():
        found = tuple(
            settle(
                policy,
                finding,
                evidence[name],
                passing,
                alpha,
                final=final,
                beyond=finding.comparison in beyond or _lone(use, finding, passing),
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
        status = (
            status_of(evidence.candidate) if evidence and isinstance(evidence.candidate, Absent) else Status.MISSING
        )
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
