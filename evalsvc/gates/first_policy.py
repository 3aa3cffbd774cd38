"""Write a first policy from stored scores, with limits and margins that noise alone rarely breaks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evalsvc.analysis.differences import Run
from evalsvc.core.errors import InputError
from evalsvc.gates.calibrate import Spread, passing_margin
from evalsvc.gates.policy import Defaults
from evalsvc.gates.resolution import quantities_of
from evalsvc.gates.sources import Runs
from evalsvc.inputs.suites import Suite
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction


@dataclass(frozen=True)
class FirstLimits:
    """Limits of one score of ``n`` samples; none if it has no valid error or no better direction, so that it is only
    reported. ``unknown`` says why the error of its reference is. A score with a right value has a largest ``distance``
    from it instead of the others.
    """

    label: str
    value: float
    n: int
    margin: float | None = None
    bound: float | None = None
    unknown: str = ""
    distance: float | None = None

    @property
    def is_limited(self) -> bool:
        """Whether any limit is set."""
        return self.margin is not None or self.distance is not None

    @property
    def facts(self) -> list[str]:
        """The limits as YAML."""
        bound = {} if self.bound is None else {"max" if self.bound > self.value else "min": self.bound}
        found = {**bound, "max_worsening": self.margin, "max_distance_from_reference": self.distance}
        return [f"{kind}: {limit!r}" for kind, limit in found.items() if limit is not None]


def first_limits(suite: Suite, runs: Runs) -> list[FirstLimits]:
    """Limits of each score of a suite, from the runs of the checkpoint that releases will be compared with.

    The margin is the smallest for which, 95 % of the time, equal checkpoints pass and checkpoints worse by twice the
    margin fail. The absolute limit is chosen so that a checkpoint worse by exactly the margin passes it equally often;
    it is omitted if it would lie outside the range of the quantity.

    Raises:
        InputError: no score has both an error and a better direction.
    """
    measured = {label: quantity for label, quantity in quantities_of(suite).items() if runs.get(label)}
    # Each limited score gets an absolute limit and a margin, or a distance.
    limited = [label for label, quantity in measured.items() if _is_limited(quantity, runs[label])]
    count = sum(1 if _is_near(runs[label]) else 2 for label in limited)
    found = [_limits(label, quantity, runs[label], suite.samples, count) for label, quantity in measured.items()]
    if not any(each.is_limited for each in found):
        raise InputError(
            f"no score under {suite.id} has both an error bar and a better direction, so no limit can be set"
        )
    return found


def _is_limited(quantity: Quantity, runs: Sequence[Run]) -> bool:
    ranks = quantity.direction is not Direction.NEUTRAL or _is_near(runs)
    return ranks and Spread.of(runs).claimed is not None


def _is_near(runs: Sequence[Run]) -> bool:
    """Whether nearness to a right value counts."""
    return all(run.target is not None and run.target_stderr is not None for run in runs)


def _limits(label: str, quantity: Quantity, runs: Sequence[Run], samples: int, count: int) -> FirstLimits:
    noise, fewest = Spread.of(runs), min(run.n for run in runs)
    if not _is_limited(quantity, runs):
        return FirstLimits(label, noise.mean, fewest)
    unknown = next((run.reference_method for run in runs if run.stderr_reference is None), "")
    margin = rounded(passing_margin(noise.difference, Defaults().confidence, samples, count), up=True)
    if not margin:
        return FirstLimits(label, noise.mean, fewest)
    if _is_near(runs):
        apart, error = abs(noise.mean - (runs[-1].target or 0.0)), runs[-1].target_stderr or 0.0
        room = passing_margin(math.hypot(noise.difference / math.sqrt(2), error), Defaults().confidence, samples, count)
        return FirstLimits(label, noise.mean, fewest, unknown=unknown, distance=rounded(apart + room, up=True))
    lower = quantity.direction is Direction.LOWER
    # A candidate shares the reference with its baseline, so that most of the reference's error cancels from the margin.
    own = math.hypot(noise.difference / math.sqrt(2), *(run.stderr_reference or 0.0 for run in runs[:1]))
    room = margin + passing_margin(own, Defaults().confidence, samples, count)
    bound = rounded(noise.mean + room, up=True) if lower else rounded(noise.mean - room, up=False)
    within = bound if quantity.low < bound < quantity.high else None
    return FirstLimits(label, noise.mean, fewest, margin, within, unknown)


def _reference(limits: Sequence[FirstLimits]) -> str:
    """The key ``reference``: ``sampled``, if every limit can be decided so."""
    unknown = {each.label: each.unknown for each in limits if each.is_limited and each.unknown}
    if not unknown:
        return "reference: sampled  # for references like this one; fixed: on this file only"
    label, why = next(iter(unknown.items()))
    return f"reference: fixed  # sampled needs the error of the reference, unknown of {label} ({why})"


def rounded(value: float, *, up: bool) -> float:
    """Round to two significant digits, up or down."""
    if value == 0:
        return 0.0
    place = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    digits = -math.floor(math.log10(place))
    return round((math.ceil if up else math.floor)(value / place - (1e-9 if up else -1e-9)) * place, max(digits, 0))


def policy_text(suite: Suite, baseline: str, limits: Sequence[FirstLimits], told: str) -> str:
    """The policy as YAML; ``baseline`` is inserted as YAML text, ``told`` is a comment on the source of the numbers.

    Decisions generalize to other references, if the errors of all limits permit it. The first score of the suite that
    has limits is critical. The others are supporting: if many limits must all surely hold, noise alone would too often
    leave one undecided.
    """
    head = next(each.label for each in limits if each.is_limited)
    lines = [
        f"# {told}",
        "# Each margin is the smallest for which, 95 % of the time, equal checkpoints pass and checkpoints worse by",
        "# twice the margin fail: raise it to a difference that users notice.",
        "version: 1",
        f"suite: {suite.id}",
        f"baseline: {baseline}",
        "on_missing_baseline: fail",
        "on_inconclusive: {more_samples: 4, then: fail}",
        _reference(limits),
    ]
    fewest = min(each.n for each in limits if each.is_limited)
    if fewest < Defaults().min_samples:
        lines.append(f"defaults: {{min_samples: {fewest}}}")
    lines.append("metrics:")
    for each in limits:
        facts = each.facts
        if each.label != head:
            facts.append("tier: supporting" if each.is_limited else "tier: advisory")
        lines.append(f"  {each.label}: {{{', '.join(facts)}}}  # {each.value:.4g}")
    return "\n".join(lines) + "\n"
