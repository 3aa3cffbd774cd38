"""Calibrate a policy against noise: score one checkpoint repeatedly and gate each run against every other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import permutations

import numpy as np
from scipy.stats import norm

from evalsvc.analysis.differences import Run
from evalsvc.core.errors import InputError
from evalsvc.gates.evidence import Evidence, pool
from evalsvc.gates.policy import Policy
from evalsvc.gates.resolution import labels_of, quantity_at
from evalsvc.gates.sequential import FIRST_SHARE, SINGLE, Look, plan
from evalsvc.gates.sources import Runs
from evalsvc.gates.verdict import Status, judge
from evalsvc.inputs.suites import Suite

POWER = 0.95
"""Probability with which a "detectable" worsening is caught, and with which a suggested margin passes equal
checkpoints.
"""


@dataclass(frozen=True)
class Noise:
    """One gated score over the runs: the observed spread, the claimed error and the margins that they allow.

    ``detectable`` is the smallest true worsening that one full evaluation fails 95 % of the time under the policy's
    margin (0 if it sets none). ``margin`` and ``margin_rel`` are the smallest margins for which, 95 % of the time,
    equal checkpoints pass and checkpoints worse by twice the margin fail.
    """

    metric: str
    mean: float
    spread: float
    claimed: float | None
    detectable: float
    margin: float
    margin_rel: float | None


@dataclass(frozen=True)
class Calibration:
    """Result of a calibration. ``failed`` and ``unsure`` are the fractions of ordered pairs of runs that the policy
    failed or left undecided.
    """

    runs: int
    pairs: int
    failed: float
    unsure: float
    noise: tuple[Noise, ...]


def calibrate(policy: Policy, suite: Suite, runs: Runs, today: date) -> Calibration:
    """Judge every ordered pair of runs of one checkpoint, one as the candidate and the other as the baseline.

    Raises:
        InputError: a gated score has fewer than two distinct runs.
    """
    labels = labels_of(policy, suite)
    quantities = {name: quantity_at(suite, label) for name, label in labels.items()}
    found: dict[str, list[Run]] = {name: list(runs.get(label, ())) for name, label in labels.items()}
    count = min(len(each) for each in found.values())
    if count < 2:
        few = min(found, key=lambda name: len(found[name]))
        raise InputError(
            f"calibration needs at least 2 distinct runs, and {few} has only {count}: pass --runs 2 or more, and use a "
            "checkpoint whose samples depend on the seed"
        )
    look = Look(suite.samples, 1, SINGLE, FIRST_SHARE)
    outcomes: Counter[Status] = Counter()
    for a, b in permutations(range(count), 2):
        evidence = {
            name: Evidence(name, quantity.direction.value, pool([found[name][a]]), pool([found[name][b]]))
            for name, quantity in quantities.items()
        }
        outcomes[judge(policy, evidence, look, today).status] += 1
    pairs = count * (count - 1)
    noise = tuple(_noise(policy, suite, name, each) for name, each in found.items())
    return Calibration(count, pairs, outcomes[Status.FAIL] / pairs, outcomes[Status.INCONCLUSIVE] / pairs, noise)


@dataclass(frozen=True)
class Spread:
    """Spread of one score between runs, and the error that the runs report; a single run has no spread."""

    mean: float
    spread: float
    claimed: float | None

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Spread:
        """Compute the spread of these runs."""
        values = np.array([run.value for run in runs])
        errors = [run.stderr for run in runs if run.stderr is not None]
        claimed = math.sqrt(float(np.mean(np.square(errors)))) if errors else None
        return cls(float(values.mean()), float(values.std(ddof=1)) if len(runs) > 1 else 0.0, claimed)

    @property
    def difference(self) -> float:
        """Standard error of the difference between two runs."""
        # A few runs may agree by chance, so the reported error is a lower bound.
        return math.sqrt(2) * max(self.spread, self.claimed or 0.0)


def passing_margin(difference: float, confidence: float, samples: int, limits: int = 1) -> float:
    """The smallest margin for which, 95 % of the time, equal checkpoints pass and checkpoints worse by twice the margin
    fail.

    ``difference`` is the standard error of the difference between two evaluations of ``samples`` samples each, as used
    at the last look of a first decision. The margin must fail as one of ``limits`` tested together (the first step of
    Holm's procedure, so that it needs no help from other limits).
    """
    deciding = plan(samples)[-1].z((1 - confidence) / 2 / limits)
    return (deciding + float(norm.isf(1 - POWER))) * difference


def _noise(policy: Policy, suite: Suite, name: str, runs: list[Run]) -> Noise:
    seen = Spread.of(runs)
    family = sum(len(metric.limits) for metric in policy.metrics.values() if metric.tier != "advisory")
    limits = family if policy.defaults.correction == "holm" else 1
    margin = passing_margin(seen.difference, policy.defaults.confidence, suite.samples, limits)
    return Noise(
        metric=name,
        mean=seen.mean,
        spread=seen.spread,
        claimed=seen.claimed,
        detectable=min(_margins(policy, name, seen.mean), default=0.0) + margin,
        margin=margin,
        margin_rel=margin / seen.mean if seen.mean > 0 else None,
    )


def _margins(policy: Policy, name: str, mean: float) -> list[float]:
    metric = policy.metrics[name]
    relative = None if metric.max_worsening_rel is None else metric.max_worsening_rel * mean
    return [margin for margin in (metric.max_worsening, relative) if margin is not None]
