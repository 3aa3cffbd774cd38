"""The units of a sample that a score applies to, among all: what is not applicable moves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from evalsvc.metrics.influence import LEAST, TOO_FEW, Influence
from evalsvc.metrics.intervals import bounds
from evalsvc.metrics.registry import Quantity, score
from evalsvc.metrics.score import Score
from evalsvc.metrics.units import Units

Statistic: TypeAlias = Callable[[Float64[np.ndarray, "*batch k"]], Float64[np.ndarray, "*batch"]]
"""A value from k sums over a corpus, for each row of a batch; NaN where it does not exist."""

SMOOTH = "leave-one-out over units"
BINOMIAL = "binomial over samples"


@dataclass(frozen=True, eq=False)
class Members:
    """Rows with a value, and the units of ``every`` that they belong to.

    ``rows`` are in the order of ``units``; unit i of ``units`` is unit ``at[i]`` of all.
    """

    every: Units
    rows: Int64[np.ndarray, " rows"]
    units: Units
    at: Int64[np.ndarray, " members"]

    @classmethod
    def of(cls, every: Units, there: Bool[np.ndarray, " n"], owner: Int64[np.ndarray, " n"] | None = None) -> Members:
        """The rows that are ``there``; ``owner`` is the unit of each where the rows are not those of ``every``."""
        rows = np.flatnonzero(there)
        owner = every.owner if owner is None else owner
        if owner is None:
            return cls(every, rows, Units(len(rows), len(rows)), rows)
        at, mine = np.unique(owner[rows], return_inverse=True)
        if len(at) == len(rows):
            return cls(every, rows[np.argsort(mine)], Units(len(rows), len(rows)), at)
        return cls(every, rows, Units(len(rows), len(at), mine.reshape(-1)), at)

    def moves(
        self, sums: Float64[np.ndarray, "rows k"], statistic: Statistic
    ) -> tuple[float, Float64[np.ndarray, " members"]]:
        """The statistic of the summed rows, and how far it falls when each unit is left out."""
        by_unit = np.stack([self.units.total(column) for column in sums.T], axis=1)
        total = by_unit.sum(0)
        value = float(statistic(total))
        return value, value - statistic(total - by_unit)

    def influence(self, moves: Float64[np.ndarray, " members"], least: float = 0.0) -> Influence:
        """Influences of all units, whose variance is that of the leave-one-out ``moves``."""
        mine, every = len(moves), self.every.count
        whole = np.zeros(every, np.float32)
        whole[self.at] = moves * np.sqrt(max(1, mine - 1) / mine * every * max(1, every - 1))
        return Influence(every, whole, student=True, least=least, members=mine if mine < every else 0)

    def within(self, apart: Float64[np.ndarray, " rows"]) -> Float32[np.ndarray, " all"] | None:
        """How each of all rows moves a mean beside the other rows of its unit, from its distance to the mean."""
        if self.units.owner is None:
            return None
        sizes = np.bincount(self.units.owner)
        if sizes.min() < 2:
            return None
        means = np.bincount(self.units.owner, apart) / sizes
        scale = np.sqrt(sizes / (sizes - 1)) * self.every.rows / len(self.rows)
        within = np.zeros(self.every.rows, np.float32)
        within[self.rows] = (apart - means[self.units.owner]) * scale[self.units.owner]
        return within

    def score(
        self,
        quantity: Quantity,
        value: float,
        moves: Float64[np.ndarray, " members"],
        *,
        details: dict[str, float],
        flags: bool = False,
    ) -> Score:
        """The score of a smooth statistic. Without error: under 20 units, but for a share of independent ``flags``."""
        members, details = len(moves), dict(details)
        few = TOO_FEW if members < LEAST and not flags else ""
        if few or not np.isfinite(moves).all():
            reason = few or "none: one sample holds everything that the score is found from"
            return score(quantity, value, None, n=len(self.rows), method=reason, details=details, units=self.units)
        stderr = float(np.sqrt((1 - 1 / members) * float(moves @ moves)))
        share = (quantity.low, quantity.high) == (0.0, 1.0)
        # A spread of 0 is not certainty: one unit could differ, and in a difference one row.
        stderr, least = stderr or share / members, share / len(self.rows)
        return score(
            quantity,
            value,
            stderr,
            n=len(self.rows),
            method=BINOMIAL if flags else SMOOTH,
            interval=bounds(value, stderr, members, (quantity.low, quantity.high), binomial=flags),
            details=details,
            influence=self.influence(moves, least),
            units=self.units,
        )
