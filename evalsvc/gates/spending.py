"""What decisions about one candidate have spent of the level, and what each of them had seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from evalsvc.core.digests import digest_baseline, digest_json
from evalsvc.gates.evidence import Absent, Evidence, Observation
from evalsvc.gates.policy import Policy
from evalsvc.gates.resolution import Sides
from evalsvc.gates.sequential import Look
from evalsvc.inputs.suites import Suite

ABSOLUTE = ""
"""The baseline of limits that need none."""


class Account(NamedTuple):
    """Where shares of the level are booked: a candidate's content in its configuration, the protocol of a score, and
    the content of the baseline that it was compared with.
    """

    candidate: str
    configuration: str
    protocol: str
    baseline: str


@dataclass(frozen=True)
class Earlier:
    """A decision as recorded: what it ``saw`` under which ``limits``, and the look that its level came from."""

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
    """Earlier decisions about a candidate, the oldest first, and the share of the level that they spent.

    ``fresh``: the database holds no decision about anything, so that nobody knows what was decided elsewhere.
    """

    decisions: tuple[Earlier, ...] = ()
    spent: float = 0.0
    fresh: bool = True

    @property
    def complete(self) -> bool:
        """Whether a plan of looks was ever carried to its end: a time limit may have cut off those that are there."""
        return any(each.status != "ERROR" for each in self.decisions)

    def same(self, saw: str, limits: str) -> Earlier | None:
        """The decision on this very evidence under these limits: it is repeated, and nothing is spent."""
        return next((each for each in self.decisions if (each.saw, each.limits) == (saw, limits)), None)


def spent_by(taken: Sequence[Look]) -> float:
    """What looks spent that led to no decision; of one plan the last look has spent most of the share of all."""
    return sum(max(look.spent for look in taken if look.share == share) for share in {look.share for look in taken})


def limits_of(policy: Policy) -> dict[str, Any]:
    """All of a policy that statuses depend on, given the evidence; waivers answer for them and change none."""
    defaults = policy.defaults.model_dump(mode="json")
    metrics = {name: metric.model_dump(mode="json") for name, metric in policy.metrics.items()}
    limits: dict[str, Any] = {
        "defaults": defaults,
        "metrics": metrics,
        "on_missing_baseline": policy.on_missing_baseline,
    }
    limits |= {"family": policy.family} if policy.part_of else {}
    return limits if policy.prompts == "sampled" else limits | {"prompts": policy.prompts}


def saw(evidence: Mapping[str, Evidence], sides: Sides) -> str:
    """Digest of the runs that were seen: seeds, counts and protocols, not values, which rounding may change."""
    seen = {name: [_seen(each.candidate), _seen(each.baseline)] for name, each in evidence.items()}
    return digest_json([seen, baseline_of(sides)])


def _seen(side: Observation | Absent | None) -> Any:
    return [list(side.seeds), side.n, side.protocol] if isinstance(side, Observation) else None


def seeds_of(evidence: Mapping[str, Evidence]) -> list[int]:
    """The seeds of the candidate's runs that were seen."""
    sides = [each.candidate for each in evidence.values()]
    return sorted({seed for side in sides if isinstance(side, Observation) for seed in side.seeds})


def baseline_of(sides: Sides) -> str:
    """The content of the baseline, or of all of which it is the median; empty where there is none."""
    if not isinstance(sides.baselines, tuple):
        return ABSOLUTE
    return digest_baseline((each.digest, each.configuration) for each in sides.baselines)


def accounts(policy: Policy, suite: Suite, sides: Sides, labels: Mapping[str, str]) -> set[Account]:
    """Where a decision's share is booked: the protocol of every score that can fail it.

    By protocol, so that neither another name or version of a suite nor another choice of limits restores the level.
    Limits that need no baseline have an account of their own, which another baseline does not restore.
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
    """What a verdict says about the decisions before it."""
    if repeats:
        yield f"the evidence and the limits are those of gate {repeats.gate}: its verdict is repeated at no cost"
    elif history.decisions:
        numbers = ", ".join(str(each.gate) for each in history.decisions)
        yield f"gate {numbers} judged this candidate before: this look has {share:.3g} of the level that is promised"
        if others := [str(each.gate) for each in history.decisions if each.limits != limits]:
            yield f"gate {', '.join(others)} judged it under other limits"
    elif history.fresh:
        yield "this database holds no decisions: looks at this candidate that others recorded are not counted"


def protocol_of(suite: Suite, label: str) -> str:
    """Digest of how a suite measures one score: its metric and version, features, reference and samples."""
    use, quantity = next((use, name) for use in suite.metrics for name in use.quantities if use.label_of(name) == label)
    extractor = suite.extractors.get(use.features.partition("/")[0])
    facts = {
        "quantity": quantity,
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
    return digest_json(facts)[:32]
