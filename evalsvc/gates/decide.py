"""From the database to a verdict: look by look, until the policy is sure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from evalsvc.gates.evidence import Absent, Evidence, Observation
from evalsvc.gates.gather import Gathering
from evalsvc.gates.policy import Policy
from evalsvc.gates.sequential import SINGLE, Look, plan
from evalsvc.gates.sources import Source
from evalsvc.gates.subjects import Sides, labels_of
from evalsvc.gates.verdict import Status, Verdict, judge
from evalsvc.store.tables import Checkpoint
from evalsvc.suites import Suite


@dataclass(frozen=True)
class Step:
    """One look as it was taken."""

    samples: int
    replicates: int
    z: float
    status: Status


@dataclass(frozen=True)
class Decision:
    """A verdict with what it was drawn from, and what it cost."""

    policy: Policy
    suite: Suite
    sides: Sides
    evidence: Mapping[str, Evidence]
    verdict: Verdict
    steps: tuple[Step, ...]

    @property
    def samples(self) -> int:
        """Samples of the candidate that the last look used."""
        return self.steps[-1].samples * self.steps[-1].replicates if self.steps else 0


def decide(
    policy: Policy, suite: Suite, sides: Sides, source: Source, today: date, seed: int | None = None
) -> Decision:
    """Look at more and more of the candidate until the verdict is sure, or all that the policy allows is spent.

    A source that cannot compute is looked at once. What fails on the way (a generator, the disk) becomes evidence too:
    it is an ERROR, never a pass.

    Raises:
        InputError: the policy gates what the suite does not measure.
    """
    gathering = Gathering(suite, sides, source, labels_of(policy, suite), seed)
    alpha = (1 - policy.defaults.confidence) / 2
    looks = _looks(policy, suite, sides, source, seed)
    steps: list[Step] = []
    for look in looks:
        evidence = gathering.look(look)
        if evidence is None:
            continue
        mine = _replicates(each.candidate for each in evidence.values())
        theirs = _replicates(each.baseline for each in evidence.values())
        # Where another seed gives nothing new on either side, more of them do not.
        final = look is looks[-1] or max(mine, theirs) < look.replicates
        verdict = judge(policy, evidence, look, today, final=final)
        steps.append(Step(look.samples, min(mine, look.replicates), look.z(alpha), verdict.status))
        open_questions = any(metric.status is Status.INCONCLUSIVE and metric.matters for metric in verdict.metrics)
        if final or verdict.status not in (Status.INCONCLUSIVE, Status.PASS) or not open_questions:
            return Decision(policy, suite, sides, evidence, verdict, tuple(steps))
    raise AssertionError("the last look takes all samples, which are never too few to be tried")


def undecided(policy: Policy, suite: Suite, sides: Sides, source: Source, today: date, why: Absent) -> Decision:
    """The decision where nothing could be looked at."""
    evidence = Gathering(suite, sides, source, labels_of(policy, suite)).nothing(why)
    verdict = judge(policy, evidence, Look(suite.samples, 1, SINGLE), today)
    return Decision(policy, suite, sides, evidence, verdict, ())


def _replicates(side: Iterable[Observation | Absent | None]) -> int:
    """Runs of a side that differ."""
    return max((each.replicates for each in side if isinstance(each, Observation)), default=1)


def _looks(policy: Policy, suite: Suite, sides: Sides, source: Source, seed: int | None) -> list[Look]:
    if not source.computes or not isinstance(sides.candidate, Checkpoint):
        return [Look(suite.samples, 1, SINGLE)]
    have = source.stored(sides.candidate, seed)
    several = isinstance(sides.baselines, tuple) and len(sides.baselines) > 1
    # Parts of several baselines would cost more than they save.
    return plan(suite.samples, policy.on_inconclusive.more_samples, max(have, 1) if several else have)
