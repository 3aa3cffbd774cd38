"""What a verdict is drawn from: numbers with their errors, or the reason why there are none. Plain data, no opinion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from evalsvc.analysis.differences import Difference, Run, difference


@dataclass(frozen=True)
class Observation:
    """One score of one checkpoint, the mean over ``replicates`` runs with different ``seeds``.

    ``below`` and ``above`` are standard errors towards lower and higher values that the runs claim of themselves,
    ``None`` where no honest one exists. ``spread`` is the standard error of the mean that the differences between runs
    show, with ``replicates - 1`` degrees of freedom; in it the runs' own errors are seen again, but where they
    ``share`` one (a likelihood over the same documents), which no repetition shows. ``drift`` bounds how far the value
    may be from that of all samples of the suite, ``None`` where nothing bounds it. ``singles`` are the runs themselves,
    which may be paired with those of the other side.
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
    singles: tuple[Run, ...] = field(default=(), compare=False, repr=False)

    @property
    def stderr(self) -> float | None:
        """The larger of the two errors, with the spread between runs."""
        if self.below is None or self.above is None:
            return None
        own = max(self.below, self.above)
        return math.hypot(own, self.spread) if self.shared else max(own, self.spread)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the runs' own errors: few where they come from groups of samples."""
        return min((run.freedom for run in self.singles), default=math.inf)

    @property
    def finite(self) -> bool:
        """Whether all numbers are numbers."""
        numbers = (self.value, self.below or 0.0, self.above or 0.0, self.spread, self.drift or 0.0)
        return self.n > 0 and all(math.isfinite(x) for x in numbers)


@dataclass(frozen=True)
class Absent:
    """Why there is no observation. ``none``: there is no such checkpoint at all; ``unavailable``: it may come yet;
    ``outdated``: it was scored under another protocol than that of today.
    """

    kind: Literal["none", "missing", "error", "unavailable", "outdated"]
    reason: str


@dataclass(frozen=True)
class Evidence:
    """Both sides of one metric.

    ``partial`` evidence uses a part of the suite's samples, of a quantity whose expectation moves with their number.
    ``same`` evidence holds the same runs on both sides.
    """

    label: str
    direction: Literal["lower", "higher", "neutral"]
    candidate: Observation | Absent
    baseline: Observation | Absent | None = None
    partial: bool = False
    same: bool = False

    def gap(self, times: float = 1.0) -> Difference | None:
        """The candidate less ``times`` the baseline; ``None`` where a side has no runs of its own."""
        if not isinstance(self.candidate, Observation) or not isinstance(self.baseline, Observation):
            return None
        a, b = self.baseline.singles, self.candidate.singles
        return difference(a, b, times) if a and b else None


def pool(runs: Sequence[Run], *, shared: bool = False) -> Observation:
    """The mean of runs under one protocol with different seeds.

    ``shared`` runs are over the same documents (a likelihood): they have one error between them, which no repetition
    makes smaller, and all that they differ by comes from their seeds. An interval that is wider than its standard error
    on one side keeps that side. Runs without errors that agree by chance have none.
    """
    count = len(runs)
    first = runs[0]
    sides = [run.sides for run in runs]
    errors = [side for side in sides if side is not None]
    values = [run.value for run in runs]
    spread = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    below: float | None = None
    above: float | None = None
    own = difference((), runs).errors if any(run.units for run in runs) else None
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
        singles=tuple(runs),
    )


def drift(whole: float, splits: Sequence[float], quarters: Sequence[float], growth: float) -> float:
    """A bound on how far a value is from that of ``growth`` times as many samples, from its own parts.

    Means over the halves and quarters of a sample differ from the whole by bias alone: what single samples add is in
    all three alike. Each doubling ahead is taken to move the value by as much as the last one did, or by more where
    the last moved it by more than the one before (coverage of few samples: twice as much; a bias of b / n: half).

    >>> drift(1.0, [1.1, 1.3], [1.6] * 4, growth=4)  # b / n with b / n = 0.2 is 0.15 away
    0.4
    """
    last = abs(float(np.mean(splits)) - whole)
    before = abs(float(np.mean(quarters)) - float(np.mean(splits)))
    ratio = min(max(last / before, 1.0), 2.0) if before > 0 else 2.0
    doublings = math.log2(growth)
    steps = doublings if ratio == 1 else ratio * (ratio**doublings - 1) / (ratio - 1)
    return round(last * steps, 12)
