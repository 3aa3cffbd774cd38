"""Compute a verdict from stored scores, look by look, until every limit is decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from evalsvc.core.digests import digest_json
from evalsvc.gates.evidence import Absent, Evidence, Observation
from evalsvc.gates.evidence_collection import Gathering
from evalsvc.gates.policy import Policy
from evalsvc.gates.resolution import Sides, labels_of
from evalsvc.gates.sequential import SINGLE, Look, later_plan, plan
from evalsvc.gates.sources import Source
from evalsvc.gates.spending import Earlier, History, limits_of, remarks, saw, spent_by
from evalsvc.gates.verdict import Status, Verdict, judge
from evalsvc.inputs.suites import Suite
from evalsvc.store.tables import Checkpoint


@dataclass(frozen=True)
class Step:
    """One completed look."""

    samples: int
    replicates: int
    z: float
    status: Status


@dataclass(frozen=True)
class Spending:
    """The evidence that a decision saw, the share of the level that its last look used, and the share that the decision
    spent.

    A decision that ``repeats`` an earlier one spends nothing.
    """

    saw: str
    limits: str
    look: Look
    spent: float
    repeats: Earlier | None


@dataclass(frozen=True)
class Decision:
    """A verdict with its evidence and the share of the level that it spent."""

    policy: Policy
    suite: Suite
    sides: Sides
    evidence: Mapping[str, Evidence]
    verdict: Verdict
    steps: tuple[Step, ...]
    history: History = field(default_factory=History)
    spending: Spending | None = None

    @property
    def samples(self) -> int:
        """Number of samples of the candidate that the last look used."""
        return self.steps[-1].samples * self.steps[-1].replicates if self.steps else 0


def decide(
    policy: Policy,
    suite: Suite,
    sides: Sides,
    source: Source,
    today: date,
    seed: int | None = None,
    history: History | None = None,
    taken: list[Look] | None = None,
) -> Decision:
    """Take larger and larger looks at the candidate until the verdict is certain or the policy's sample budget is
    exhausted.

    A source that cannot compute is looked at once. A failure on the way (of a generator, of the disk) becomes evidence:
    it is an ERROR, never a pass. Evidence that an earlier decision saw under the same limits is judged at the same
    level; other evidence spends a share of the level, and after the first decision half of the remaining share. Looks
    that spend are appended to ``taken``, for a caller whose time limit may expire before there is a decision.

    Raises:
        InputError: the policy gates a score that the suite does not measure.
    """
    history = history or History()
    gathering = Gathering(suite, sides, source, labels_of(policy, suite), seed, policy.prompts == "fixed")
    alpha = (1 - policy.defaults.confidence) / 2
    limits = digest_json(limits_of(policy))
    looks = _looks(policy, suite, sides, source, seed, history)
    steps: list[Step] = []
    spent = 0.0
    for look in looks:
        evidence = gathering.look(look)
        if evidence is None:
            continue
        seen = saw(evidence, sides)
        earlier = history.same(seen, limits)
        if earlier:
            look = replace(look, share=earlier.share, fractions=earlier.fractions)
        elif look.samples < suite.samples and history.complete:
            continue  # only a partial look that an earlier decision took may be repeated
        elif history.complete:
            look = replace(look, share=(1 - history.spent - spent) / 2)
            spent += look.share
        else:
            spent = look.share
        mine = _replicates(each.candidate for each in evidence.values())
        theirs = _replicates(each.baseline for each in evidence.values())
        # If another seed adds no run to either side, further seeds add none either.
        final = look.replicates >= looks[-1].replicates and look.samples == suite.samples
        final = final or max(mine, theirs) < look.replicates
        verdict = judge(policy, evidence, look, today, final=final)
        if taken is not None and not earlier:
            taken.append(look)
        steps.append(Step(look.samples, min(mine, look.replicates), look.z(alpha), verdict.status))
        # More samples do not reduce the error of the reference, so no look is spent on what only it leaves open.
        open_questions = any(metric.open for metric in verdict.metrics)
        if final or verdict.status not in (Status.INCONCLUSIVE, Status.PASS) or not open_questions:
            spending = Spending(seen, limits, look, spent, earlier)
            said = (*verdict.warnings, *remarks(history, earlier, limits, look.share))
            verdict = replace(verdict, warnings=said)
            return Decision(policy, suite, sides, evidence, verdict, tuple(steps), history, spending)
    raise AssertionError("the last look uses all samples, so it always yields a verdict")


def undecided(
    policy: Policy,
    suite: Suite,
    sides: Sides,
    source: Source,
    today: date,
    why: Absent,
    history: History | None = None,
    taken: Sequence[Look] = (),
) -> Decision:
    """The decision if no look was possible, or if the looks in ``taken`` led to no verdict."""
    evidence = Gathering(suite, sides, source, labels_of(policy, suite)).nothing(why)
    verdict = judge(policy, evidence, Look(suite.samples, 1, SINGLE), today)
    spending = Spending("", digest_json(limits_of(policy)), taken[-1], spent_by(taken), None) if taken else None
    return Decision(policy, suite, sides, evidence, verdict, (), history or History(), spending)


def _replicates(side: Iterable[Observation | Absent | None]) -> int:
    """Number of distinct runs of a side."""
    return max((each.replicates for each in side if isinstance(each, Observation)), default=1)


def _looks(
    policy: Policy, suite: Suite, sides: Sides, source: Source, seed: int | None, history: History
) -> list[Look]:
    more, have = 1, 1
    if isinstance(sides.candidate, Checkpoint):
        have = source.stored(sides.candidate, None)
        if source.computes:
            more = policy.on_inconclusive.more_samples
            have += have > 0 and seed is not None and not source.stored(sides.candidate, seed)
        have = have if source.computes else max(have, 1)
    if not history.complete:
        several = isinstance(sides.baselines, tuple) and len(sides.baselines) > 1
        # Partial looks at several baselines would cost more than they save.
        first = plan(suite.samples, more, max(have, 1) if several else have)
        return [replace(look, share=look.share * (1 - history.spent)) for look in first]
    parts = {each.samples: each for each in history.decisions if each.samples < suite.samples and not have}
    again = [Look(each.samples, 1, each.fractions, each.share) for each in parts.values()]
    return [*again, *later_plan(suite.samples, more, have, history.spent)]
