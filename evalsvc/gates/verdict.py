"""From evidence to a verdict: pure functions. A status starts as UNKNOWN, and only a sure interval makes it PASS."""

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
    """What is known about a metric, or about the gate."""

    UNKNOWN = "UNKNOWN"
    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    MISSING = "MISSING"
    NOT_COMPARABLE = "NOT_COMPARABLE"
    ERROR = "ERROR"


# What could not be judged outweighs what was: turning failures into warnings must not hide a hole.
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
    """What was found about one limit; there is no comparison where the numbers allow none."""

    kind: LimitKind
    limit: float
    status: Status
    reason: str
    comparison: Comparison | None = None


@dataclass(frozen=True)
class MetricVerdict:
    """One metric: its worst finding."""

    label: str
    tier: Tier
    status: Status
    findings: tuple[Finding, ...]
    reason: str
    waiver: Waiver | None = None

    @property
    def matters(self) -> bool:
        """Whether the gate could ever turn on this."""
        return self.tier != "advisory" and self.waiver is None

    @property
    def blocks(self) -> bool:
        """Whether this keeps the gate from passing."""
        return self.matters and self.status in _blocking(self.tier)


@dataclass(frozen=True)
class Verdict:
    """The gate's answer."""

    status: Status
    metrics: tuple[MetricVerdict, ...]
    reason: str
    warnings: tuple[str, ...]
    unavailable: bool = False

    def exit_code(self, policy: Policy, *, warn_only: bool = False) -> int:
        """0 passed, 3 failed, 4 inconclusive, 5 missing, 7 not comparable; 6 unavailable, 1 any other error."""
        softened = {Status.FAIL, Status.INCONCLUSIVE} if warn_only else set()
        if policy.on_inconclusive.then == "warn":
            softened.add(Status.INCONCLUSIVE)
        if self.status in softened:
            return 0
        return CODES.get(self.status, UNAVAILABLE if self.unavailable else CRASH)


def judge(policy: Policy, evidence: Mapping[str, Evidence], look: Look, today: date, *, final: bool = True) -> Verdict:
    """The verdict on evidence that was looked at as ``look`` says; ``final`` when no further look will come.

    Failing is judged over all limits that can fail the gate together (Holm), so that more limits are no more false
    alarms. Passing needs every limit to hold surely, each at the full level: the gate passes only where all do.
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
    """Holm's step-down over ``count`` limits: every rejection leaves more of the level for the rest."""
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
    """The comparison of one limit, or why there can be none."""

    def without(status: Status, reason: str) -> Finding:
        return Finding(kind, limit, status, reason)

    if evidence is None:
        return without(Status.MISSING, "there is no score of this name")
    candidate = evidence.candidate
    if isinstance(candidate, Absent):
        return without(_status(candidate), f"candidate: {candidate.reason}")
    if not candidate.finite:
        return without(Status.ERROR, f"candidate: {candidate.value} is not a score")
    if not kind.startswith("max_worsening"):
        if candidate.below is None or candidate.above is None:
            return without(Status.INCONCLUSIVE, f"no error bar ({candidate.method}), so nothing is sure")
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
        return without(Status.ERROR, f"baseline: {baseline.value} is not a score")
    if baseline.protocol != candidate.protocol:
        return without(Status.NOT_COMPARABLE, differing_facts(candidate.facts, baseline.facts) or "other protocols")
    if evidence.direction == "neutral":
        return without(Status.ERROR, "has no better or worse, so it cannot worsen")
    if candidate.stderr is None or baseline.stderr is None:
        side = candidate if candidate.stderr is None else baseline
        return without(Status.INCONCLUSIVE, f"no error bar ({side.method}), so nothing is sure")
    if kind == "max_worsening":
        return Finding(kind, limit, Status.UNKNOWN, "", worsening(evidence, candidate, baseline, limit, z))
    if baseline.value - uncertainty(baseline, z) <= 0:
        return without(Status.INCONCLUSIVE, "the baseline is not surely above zero, so there is no share of it")
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
        return Finding(draft.kind, draft.limit, status, f"{fewest} samples where {needed} are needed", comparison)
    if beyond:
        return Finding(draft.kind, draft.limit, Status.FAIL, f"surely beyond: {interval}", comparison)
    if evidence.partial:
        reason = f"its expectation moves with the number of samples, so only all of them can pass: {interval}"
        return Finding(draft.kind, draft.limit, Status.INCONCLUSIVE, reason, comparison)
    if comparison.surely_within(z):
        return Finding(draft.kind, draft.limit, Status.PASS, f"surely within: {interval}", comparison)
    return Finding(draft.kind, draft.limit, Status.INCONCLUSIVE, f"not sure: {interval}", comparison)


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
        status, reason = Status.PASS, "every metric that must hold surely does"
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
            yield f"{metric.label} is not sure, which a supporting metric may be ({metric.reason})"
        elif metric.tier == "advisory" and metric.status not in (Status.PASS, Status.UNKNOWN):
            yield f"{metric.label} is {metric.status} and only advisory ({metric.reason})"
    seen = [side for each in evidence.values() for side in (each.candidate, each.baseline)]
    if any(isinstance(side, Observation) and side.replicates == 1 for side in seen):
        yield (
            "one seed: these intervals hold the spread between samples, and cannot show the spread between seeds "
            "(on_inconclusive.more_samples or --seed adds seeds)"
        )


def _blocking(tier: Tier) -> set[Status]:
    holes = {Status.ERROR, Status.NOT_COMPARABLE, Status.MISSING, Status.FAIL}
    return holes | {Status.INCONCLUSIVE} if tier == "critical" else holes


def _status(absent: Absent) -> Status:
    if absent.kind == "outdated":
        return Status.NOT_COMPARABLE
    return Status.ERROR if absent.kind in ("error", "unavailable") else Status.MISSING
