"""The evidence for a verdict: numbers with their errors, or the reason why numbers are missing. Plain data
without statuses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from evalsvc.analysis.differences import Difference, Run, difference
from evalsvc.metrics.influence import Influence


@dataclass(frozen=True)
class Observation:
    """One score of one checkpoint: the mean over ``replicates`` runs with different ``seeds``.

    ``below`` and ``above`` are the standard errors toward lower and higher values as reported by the runs, ``None`` if
    no valid error exists. ``spread`` is the standard error of the mean estimated from the differences between runs,
    with ``replicates - 1`` degrees of freedom. It already contains the runs' own errors, except for an error that all
    runs share (``shared``: a likelihood over the same documents), which repetition does not reveal. ``drift`` bounds
    the distance from the value on all samples of the suite, ``None`` if there is no bound. ``singles`` are the runs
    themselves, which may be paired with those of the other side; a median has ``members`` instead.

    ``stderr_reference`` is what redrawing the ``reference_rows`` of the reference adds to the error, ``None`` if
    ``reference_method`` says why it is unknown. ``target`` is the right value, if there is one, and ``distance_drift``
    bounds how far the distance from it is from that on all samples.
    """

    value: float
    below: float | None
    above: float | None
    n: int
    protocol: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    method: str = ""
    runs: tuple[int, ...] = ()
    replicates: int = 1
    seeds: tuple[int, ...] = ()
    spread: float = 0.0
    shared: bool = False
    drift: float | None = 0.0
    stderr_reference: float | None = 0.0
    reference_method: str = ""
    reference_rows: int = 0
    target: float | None = None
    target_stderr: float | None = None
    distance_drift: float | None = 0.0
    singles: tuple[Run, ...] = field(default=(), compare=False, repr=False)
    members: tuple[Observation, ...] = field(default=(), compare=False, repr=False)

    @property
    def stderr(self) -> float | None:
        """The larger of the two errors, including the spread between runs."""
        if self.below is None or self.above is None:
            return None
        own = max(self.below, self.above)
        return math.hypot(own, self.spread) if self.shared else max(own, self.spread)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the runs' own errors: few if the errors come from groups of samples."""
        return min((run.freedom for run in self.singles), default=math.inf)

    @property
    def finite(self) -> bool:
        """Whether all numbers are finite and there is at least one sample."""
        own = (self.below, self.above, self.spread, self.drift, self.stderr_reference)
        of_target = (self.target, self.target_stderr, self.distance_drift)
        numbers = (self.value, *(each or 0.0 for each in (*own, *of_target)))
        return self.n > 0 and all(math.isfinite(x) for x in numbers)


@dataclass(frozen=True)
class Absent:
    """The reason why there is no observation.

    ``none``: the checkpoint does not exist. ``unavailable``: it may become available later. ``outdated``: it was scored
    under another protocol than the current one.
    """

    kind: Literal["none", "missing", "error", "unavailable", "outdated"]
    reason: str


@dataclass(frozen=True)
class Evidence:
    """Both sides of one metric.

    ``partial`` evidence uses some of the suite's samples, for a quantity whose expectation depends on their number.
    ``same`` evidence has the same runs on both sides.
    """

    label: str
    direction: Literal["lower", "higher", "neutral"]
    candidate: Observation | Absent
    baseline: Observation | Absent | None = None
    partial: bool = False
    same: bool = False

    def gap(self, times: float = 1.0) -> Difference | None:
        """The candidate minus ``times`` the baseline; ``None`` if a side has no runs of its own."""
        if not isinstance(self.candidate, Observation) or not isinstance(self.baseline, Observation):
            return None
        a, b = self.baseline.singles, self.candidate.singles
        return difference(a, b, times) if a and b else None

    def reference_error(self, times: float) -> float:
        """The error that redrawing the reference adds to the candidate minus ``times`` the baseline.

        Both sides share the reference, so its effects cancel as far as they are equal. Without runs of their own,
        nothing is known to cancel. Of several baselines, the largest is used.
        """
        candidate, baseline = self.candidate, self.baseline
        if self.same or not isinstance(candidate, Observation) or not isinstance(baseline, Observation):
            return 0.0
        found = []
        for each in baseline.members or (baseline,):
            gap = difference(each.singles, candidate.singles, times) if each.singles and candidate.singles else None
            apart = (candidate.stderr_reference or 0.0) + times * (each.stderr_reference or 0.0)
            found.append(apart if gap is None or gap.stderr_reference is None else gap.stderr_reference)
        return max(found)


def pool(runs: Sequence[Run], *, shared: bool = False) -> Observation:
    """The mean of runs under one protocol with different seeds.

    ``shared`` runs cover the same documents (a likelihood): they share one error, which repetition does not reduce, and
    differ only by their seeds. An interval that is wider than the standard error on one side stays wider on that side.
    Runs without errors that agree by chance have no error.
    """
    count = len(runs)
    first = runs[0]
    sides = [run.sides for run in runs]
    errors = [side for side in sides if side is not None]
    values = [run.value for run in runs]
    spread = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    below: float | None = None
    above: float | None = None
    mean = difference((), runs)
    right = next((run for run in reversed(runs) if run.target is not None), first)
    own = mean.errors if any(run.units for run in runs) else None
    if own:
        below, above = own.below, own.above
    elif len(errors) == count:
        scale = 1.0 if shared else 1 / math.sqrt(count)
        below, above = (scale * math.sqrt(float(np.mean([side[i] ** 2 for side in errors]))) for i in (0, 1))
    elif spread > 0:
        below = above = 0.0
    return Observation(
        value=float(np.mean(values)),
        below=below,
        above=above,
        n=first.n if shared else sum(run.n for run in runs),
        protocol=first.protocol,
        facts=first.facts,
        method=first.method,
        runs=tuple(run.run for run in runs),
        replicates=count,
        seeds=tuple(run.seed for run in runs),
        spread=spread,
        shared=shared,
        stderr_reference=mean.stderr_reference,
        reference_method=mean.reference_method or first.reference_method,
        reference_rows=first.reference.n if isinstance(first.reference, Influence) else 0,
        target=right.target,
        target_stderr=right.target_stderr,
        singles=tuple(runs),
    )


def drift(whole: float, splits: Sequence[float], quarters: Sequence[float], growth: float) -> float:
    """An upper bound on the distance between a value and its value on ``growth`` times as many samples, from
    subsamples.

    Means over the halves and quarters of a sample differ from the whole by bias alone, because the contribution of
    single samples is the same in all three. Each further doubling is assumed to move the value by as much as the last
    one did, or by more if the last doubling moved it by more than the one before (coverage of few samples: twice as
    much; a bias of b / n: half).

    >>> drift(1.0, [1.1, 1.3], [1.6] * 4, growth=4)  # b / n with b / n = 0.2 is 0.15 away
    0.4
    """
    last = abs(float(np.mean(splits)) - whole)
    before = abs(float(np.mean(quarters)) - float(np.mean(splits)))
    ratio = min(max(last / before, 1.0), 2.0) if before > 0 else 2.0
    doublings = math.log2(growth)
    steps = doublings if ratio == 1 else ratio * (ratio**doublings - 1) / (ratio - 1)
    return round(last * steps, 12)
