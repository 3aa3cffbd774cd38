"""What a verdict is drawn from: numbers with their errors, or the reason why there are none. Plain data, no opinion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy.stats import t as student

from metrics.score import Z95


@dataclass(frozen=True)
class Observation:
    """One score of one checkpoint, the mean over ``replicates`` runs with different seeds.

    ``below`` and ``above`` are standard errors towards lower and higher values, ``None`` where no honest one exists.
    With more than one replicate the spread between seeds is counted in them.
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

    @property
    def stderr(self) -> float | None:
        """The larger of the two errors."""
        return None if self.below is None or self.above is None else max(self.below, self.above)

    @property
    def finite(self) -> bool:
        """Whether all numbers are numbers."""
        return self.n > 0 and all(math.isfinite(x) for x in (self.value, self.below or 0.0, self.above or 0.0))


@dataclass(frozen=True)
class Absent:
    """Why there is no observation. ``none``: there is no such checkpoint at all; ``unavailable``: it may come yet."""

    kind: Literal["none", "missing", "error", "unavailable"]
    reason: str


@dataclass(frozen=True)
class Drift:
    """How far the baseline's score moved between a part of the suite's samples and all of them."""

    value: float
    stderr: float


@dataclass(frozen=True)
class Evidence:
    """Both sides of one metric. ``covariance`` is that of the two values: 0 where they are independent.

    ``partial`` evidence uses a part of the suite's samples, and ``drift`` tells what that does to the score; ``None``
    where nobody knows.
    """

    label: str
    direction: Literal["lower", "higher", "neutral"]
    candidate: Observation | Absent
    baseline: Observation | Absent | None = None
    covariance: float = 0.0
    partial: bool = False
    drift: Drift | None = None


@dataclass(frozen=True)
class Single:
    """One score as one run stored it."""

    value: float
    stderr: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    protocol: str
    facts: Mapping[str, Any]
    method: str
    run: int = 0


def pool(runs: Sequence[Single], *, shared: bool = False) -> Observation:
    """The mean of runs under one protocol with different seeds.

    What the runs differ by beyond their own errors is the spread between seeds; as it is estimated from few runs, it is
    widened by Student's factor. ``shared`` runs are over the same documents (a likelihood): they have one error between
    them, which no repetition makes smaller, and all that they differ by comes from their seeds. An interval that is
    wider than its standard error on one side keeps that side. Runs without errors that agree by chance have none.
    """
    count = len(runs)
    value = float(np.mean([run.value for run in runs]))
    first = runs[0]
    below: float | None = None
    above: float | None = None
    sides = [_sides(run) for run in runs]
    errors = [side for side in sides if side is not None]
    spread = float(np.var([run.value for run in runs], ddof=1)) if count > 1 else 0.0
    if len(errors) == count or spread > 0:
        factor = (float(student.isf(0.025, count - 1)) / Z95) ** 2 if count > 1 else 0.0
        totals = []
        for index in (0, 1):
            within = float(np.mean([side[index] ** 2 for side in errors])) if len(errors) == count else 0.0
            excess = factor * (spread if shared else max(0.0, spread - within))
            totals.append(math.sqrt((within if shared else within / count) + excess / count))
        below, above = totals
    return Observation(
        value=value,
        below=below,
        above=above,
        n=first.n if shared else sum(run.n for run in runs),
        protocol=first.protocol,
        facts=first.facts,
        method=first.method,
        runs=tuple(run.run for run in runs),
        replicates=count,
    )


def _sides(run: Single) -> tuple[float, float] | None:
    if run.stderr is None or run.ci_low is None or run.ci_high is None:
        return None
    return max(run.stderr, (run.value - run.ci_low) / Z95), max(run.stderr, (run.ci_high - run.value) / Z95)
