"""What decisions about one candidate have spent of the level, and what each of them had seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalsvc.digests import digest_json
from evalsvc.gates.evidence import Absent, Evidence, Observation
from evalsvc.gates.policy import Policy
from evalsvc.suites import Suite

ABSOLUTE = ""
"""The baseline of limits that need none."""


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

    def same(self, saw: str, limits: str) -> Earlier | None:
        """The decision on this very evidence under these limits: it is repeated, and nothing is spent."""
        return next((each for each in self.decisions if (each.saw, each.limits) == (saw, limits)), None)


def limits_of(policy: Policy) -> dict[str, Any]:
    """All of a policy that statuses depend on, given the evidence; waivers answer for them and change none."""
    defaults = policy.defaults.model_dump(mode="json")
    metrics = {name: metric.model_dump(mode="json") for name, metric in policy.metrics.items()}
    return {"defaults": defaults, "metrics": metrics, "on_missing_baseline": policy.on_missing_baseline}


def saw(evidence: Mapping[str, Evidence]) -> str:
    """Digest of the runs that were seen: seeds, counts and protocols, not values, which rounding may change."""
    sides = {name: [_seen(each.candidate), _seen(each.baseline)] for name, each in evidence.items()}
    return digest_json(sides)


def _seen(side: Observation | Absent | None) -> Any:
    return [list(side.seeds), side.n, side.protocol] if isinstance(side, Observation) else None


def accounts(policy: Policy, suite: Suite, labels: Mapping[str, str], baseline: str) -> set[tuple[str, str]]:
    """Where a decision's share is booked: the protocol of every score that can fail it, with the baseline compared to.

    By protocol, so that neither another name or version of a suite nor another choice of limits restores the level.
    Limits that need no baseline have an account of their own, which another baseline does not restore.
    """
    found = set()
    for name, metric in policy.metrics.items():
        if metric.tier == "advisory":
            continue
        protocol = protocol_of(suite, labels[name])
        for kind in metric.limits:
            found.add((protocol, baseline if kind.startswith("max_worsening") else ABSOLUTE))
    return found


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
