"""How a policy treats noise: one checkpoint scored again and again, each run gated against each other."""

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
from evalsvc.gates.resolution import labels_of, quantities_of
from evalsvc.gates.sequential import FIRST_SHARE, SINGLE, Look, plan
from evalsvc.gates.sources import Runs
from evalsvc.gates.verdict import Status, judge
from evalsvc.inputs.suites import Suite

POWER = 0.95
"""What is called detectable is caught this often; a suggested margin lets equal checkpoints pass this often."""


@dataclass(frozen=True)
class Noise:
    """One gated score over the runs: spread seen and error claimed, and what margins they allow.

    ``detectable`` is the smallest true worsening that one full evaluation fails 95 % of the time under the policy's
    margin (0 where it sets none); ``margin`` and ``margin_rel`` are the smallest that equal checkpoints pass, and those
    that are worse by twice as much fail, 95 % of the time.
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
    """``failed`` and ``unsure``: shares of the ordered pairs of runs that the policy failed, or could not decide."""

    runs: int
    pairs: int
    failed: float
    unsure: float
    noise: tuple[Noise, ...]


def calibrate(policy: Policy, suite: Suite, runs: Runs, today: date) -> Calibration:
    """Judge every ordered pair of runs of one checkpoint as if one were the candidate and the other the baseline.

    Raises:
        InputError: fewer than two runs of a gated score that differ.
    """
    labels, quantities = labels_of(policy, suite), quantities_of(suite)
    found: dict[str, list[Run]] = {name: list(runs.get(label, ())) for name, label in labels.items()}
    count = min(len(each) for each in found.values())
    if count < 2:
        few = min(found, key=lambda name: len(found[name]))
        raise InputError(
            f"calibration compares runs that differ, and there is {count} of {few}: give --runs 2 or more, of a "
            "checkpoint whose samples depend on the seed"
        )
    look = Look(suite.samples, 1, SINGLE, FIRST_SHARE)
    outcomes: Counter[Status] = Counter()
    for a, b in permutations(range(count), 2):
        evidence = {
            name: Evidence(name, quantities[label].direction.value, pool([found[name][a]]), pool([found[name][b]]))
            for name, label in labels.items()
        }
        outcomes[judge(policy, evidence, look, today).status] += 1
    pairs = count * (count - 1)
    noise = tuple(_noise(policy, suite, name, each) for name, each in found.items())
    return Calibration(count, pairs, outcomes[Status.FAIL] / pairs, outcomes[Status.INCONCLUSIVE] / pairs, noise)


@dataclass(frozen=True)
class Spread:
    """How runs of one score differ, and the error that they claim; a single run has no spread."""

    mean: float
    spread: float
    claimed: float | None

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Spread:
        """That of these runs."""
        values = np.array([run.value for run in runs])
        errors = [run.stderr for run in runs if run.stderr is not None]
        claimed = math.sqrt(float(np.mean(np.square(errors)))) if errors else None
        return cls(float(values.mean()), float(values.std(ddof=1)) if len(runs) > 1 else 0.0, claimed)

    @property
    def difference(self) -> float:
        """Standard error of the difference of two runs."""
        # Few runs may agree by chance: what each claims of itself is the least that counts.
        return math.sqrt(2) * max(self.spread, self.claimed or 0.0)


def passing_margin(difference: float, confidence: float, samples: int, limits: int = 1) -> float:
    """The smallest margin that equal checkpoints pass, and those worse by twice as much fail, 95 % of the time.

    ``difference`` is the standard error of a difference of two evaluations of ``samples`` samples, which a first
    decision looks at last; it fails over so many ``limits`` together (Holm's first step, so that no other has to help).
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
