"""The share of the level that decisions about one candidate have spent, and the evidence that each of them saw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from evalsvc.core.digests import digest_baseline, digest_json
from evalsvc.gates.evidence import Absent, Evidence, Observation
from evalsvc.gates.policy import Policy
from evalsvc.gates.resolution import Sides
from evalsvc.gates.sequential import Look
from evalsvc.inputs.slice_labels import parts
from evalsvc.inputs.suites import Suite

ABSOLUTE = ""
"""The baseline of limits that compare with none."""


class Account(NamedTuple):
    """An account of spent shares of the level: the candidate's content and configuration, the protocol of a score, and
    the content of the baseline.
    """

    candidate: str
    configuration: str
    protocol: str
    baseline: str


@dataclass(frozen=True)
class Earlier:
    """A recorded decision: the digests of the evidence (``saw``) and of the limits, and the look that determined its
    level.
    """

    gate: int
    at: str
    status: str
    shadow: bool
    seeds: tuple[int, ...]
    saw: str
    limits: str
    metrics: Mapping[str, Any]
    samples: int
    replicates: int
    fractions: tuple[float, ...]
    share: float


@dataclass(frozen=True)
class History:
    """Earlier decisions about a candidate, oldest first, and the share of the level that they spent.

    ``fresh``: the database contains no decision at all, so that decisions in other databases are unknown.
    """

    decisions: tuple[Earlier, ...] = ()
    spent: float = 0.0
    fresh: bool = True

    @property
    def complete(self) -> bool:
        """Whether a plan of looks was ever completed; a time limit may have interrupted the recorded ones."""
        return any(each.status != "ERROR" for each in self.decisions)

    def same(self, saw: str, limits: str) -> Earlier | None:
        """The earlier decision on the same evidence under the same limits, which is repeated without spending."""
        return next((each for each in self.decisions if (each.saw, each.limits) == (saw, limits)), None)


def spent_by(taken: Sequence[Look]) -> float:
    """The share that looks without a decision have spent; the last look of a plan accounts for all looks
    of that plan.
    """
    return sum(max(look.spent for look in taken if look.share == share) for share in {look.share for look in taken})


def limits_of(policy: Policy) -> dict[str, Any]:
    """All fields of a policy that statuses depend on, given the evidence; waivers change no status."""
    defaults = policy.defaults.model_dump(mode="json")
    metrics = {name: metric.model_dump(mode="json") for name, metric in policy.metrics.items()}
    limits: dict[str, Any] = {
        "defaults": defaults,
        "metrics": metrics,
        "on_missing_baseline": policy.on_missing_baseline,
    }
    limits |= {"family": policy.family} if policy.part_of else {}
    limits |= {"prompts": policy.prompts} if policy.prompts != "sampled" else {}
    return limits | ({"reference": policy.reference} if policy.reference != "fixed" else {})


def saw(evidence: Mapping[str, Evidence], sides: Sides) -> str:
    """Digest of the runs in the evidence: seeds, counts and protocols, but not values, which rounding may change."""
    seen = {name: [_seen(each.candidate), _seen(each.baseline)] for name, each in evidence.items()}
    return digest_json([seen, baseline_of(sides)])


def _seen(side: Observation | Absent | None) -> Any:
    return [list(side.seeds), side.n, side.protocol] if isinstance(side, Observation) else None


def seeds_of(evidence: Mapping[str, Evidence]) -> list[int]:
    """The seeds of the candidate's runs in the evidence."""
    sides = [each.candidate for each in evidence.values()]
    return sorted({seed for side in sides if isinstance(side, Observation) for seed in side.seeds})


def baseline_of(sides: Sides) -> str:
    """The content digest of the baseline, or of all baselines of a median; empty without a baseline."""
    if not isinstance(sides.baselines, tuple):
        return ABSOLUTE
    return digest_baseline((each.digest, each.configuration) for each in sides.baselines)


def accounts(policy: Policy, suite: Suite, sides: Sides, labels: Mapping[str, str]) -> set[Account]:
    """The accounts that a decision's share is recorded in: one per protocol of a score that can fail the gate.

    Accounts are kept per protocol, so that neither renaming or versioning a suite nor choosing other limits restores
    the level. Limits without a baseline have an account of their own, which changing the baseline does not restore.
    """
    if isinstance(sides.candidate, Absent):
        return set()
    own, baseline = sides.candidate, baseline_of(sides)
    return {
        Account(
            own.digest,
            own.configuration,
            protocol_of(suite, labels[name]),
            baseline if kind.startswith("max_worsening") else ABSOLUTE,
        )
        for name, metric in policy.metrics.items()
        if metric.tier != "advisory"
        for kind in metric.limits
    }


def remarks(history: History, repeats: Earlier | None, limits: str, share: float) -> Iterable[str]:
    """Warnings of a verdict about the decisions before it."""
    if repeats:
        yield f"the evidence and the limits equal those of gate {repeats.gate}: its verdict is repeated at no cost"
    elif history.decisions:
        numbers = ", ".join(str(each.gate) for each in history.decisions)
        yield f"gate {numbers} judged this candidate before: this look uses {share:.3g} of the error level"
        if others := [str(each.gate) for each in history.decisions if each.limits != limits]:
            yield f"gate {', '.join(others)} used other limits"
    elif history.fresh:
        yield "this database has no decisions: looks at this candidate recorded elsewhere are not counted"


def protocol_of(suite: Suite, label: str) -> str:
    """Digest of how a suite measures one score: its metric and version, features, reference and samples."""
    measured = suite.measures(label)
    assert measured
    use, quantity = measured
    extractor = suite.extractors.get(use.features.partition("/")[0])
    facts = {
        "quantity": quantity.name,
        "metric": use.metric,
        "version": use.spec.version,
        "options": use.options,
        "against": use.against,
        "features": [use.features.partition("/")[2], extractor.model_dump(mode="json") if extractor else None],
        "reference": suite.reference,
        "samples": suite.samples,
        "prompts": suite.prompts.sha256 if suite.prompts else None,
        "decoding": suite.decoding.model_dump(mode="json") if suite.decoding else None,
    }
    if suite.items:
        facts["items"] = suite.items.facts
    if use.of:
        scorer, _, name = use.of.partition("/")
        facts["scorer"] = [suite.scorers[scorer].use, suite.scorers[scorer].options, name]
    if (cut := parts(label)) and label not in suite.measured:
        facts["slice"] = cut[1:]
    return digest_json(facts)[:32]
