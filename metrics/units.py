"""The independent units of a sample: its rows, or groups of rows that belong together (draws of one prompt)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Shaped

from evalsvc.metrics import influence
from evalsvc.metrics.errors import MetricError
from evalsvc.metrics.influence import LEAST, Influence, Rows, variance
from evalsvc.metrics.score import Z95

Groups: TypeAlias = Shaped[np.ndarray, " n"]
Psi: TypeAlias = Float[np.ndarray, " _"]


@dataclass(frozen=True, eq=False)
class Units:
    """The unit that each of ``rows`` rows belongs to, of ``count``; ``owner`` is ``None`` where row i is unit i."""

    rows: int
    count: int
    owner: Int64[np.ndarray, " rows"] | None = None

    @classmethod
    def of(cls, rows: int, groups: Groups | None = None) -> Units:
        """Units of ``rows`` rows: one a row, or one for each label of ``groups``, in ascending order of the labels.

        Raises :class:`MetricError` unless there is one label a row.
        """
        if groups is None:
            return cls(rows, rows)
        labels = np.asarray(groups)
        if labels.shape != (rows,):
            raise MetricError(f"groups has shape {labels.shape}; pass one label for each of the {rows} rows")
        names, owner = np.unique(labels, return_inverse=True)
        return cls(rows, rows) if len(names) == rows else cls(rows, len(names), owner.reshape(-1))

    def part(self, rows: Rows) -> Units:
        """The units that some of the rows make up."""
        return Units.of(len(rows), None if self.owner is None else self.owner[rows])

    def disjoint_pairs(self, most: int) -> tuple[Rows, Rows, Rows]:
        """All pairs of rows of two units, for disjoint pairs of units at random; and which pair of units each is of.

        Nothing where that would be more than ``most`` pairs of rows.
        """
        one, other = np.random.default_rng(self.count).permutation(self.count)[: self.count // 2 * 2].reshape(2, -1)
        if self.owner is None:
            return one, other, np.arange(len(one))
        order, sizes = np.argsort(self.owner, kind="stable"), np.bincount(self.owner, minlength=self.count)
        starts = np.cumsum(sizes) - sizes
        number = sizes[one] * sizes[other]
        if number.sum() > most:
            return (np.empty(0, np.int64),) * 3
        pair = np.repeat(np.arange(len(one)), number)
        place = np.arange(len(pair)) - np.repeat(np.cumsum(number) - number, number)
        width = sizes[other][pair]
        return order[starts[one][pair] + place // width], order[starts[other][pair] + place % width], pair

    @property
    def clustered(self) -> bool:
        """Whether a unit has more than one row."""
        return self.owner is not None

    @property
    def too_few(self) -> str:
        """The reason for a missing error where groups are too few; empty where there are enough."""
        if self.owner is None or self.count >= LEAST:
            return ""
        return f"none: fewer than {LEAST} independent groups of samples ({self.count})"

    @property
    def quantile(self) -> float:
        """97.5 % quantile by which errors are multiplied: the normal law's, or Student's where units are groups."""
        if not self.clustered or self.count < 2:
            return Z95
        from scipy.special import stdtrit  # here, as the registry reads this file and people only ask it for names

        return float(stdtrit(self.count - 1, 0.975))

    @functools.cached_property
    def halves(self) -> tuple[Rows, Rows]:
        """The rows of two random halves of the units, always the same."""
        if self.owner is None:
            return influence.halves(self.rows)
        first = np.zeros(self.count, bool)
        first[influence.halves(self.count)[0]] = True
        mine = first[self.owner]
        return np.flatnonzero(mine), np.flatnonzero(~mine)

    def described(self, method: str) -> str:
        """A method of finding the error, with the number of units where these are groups."""
        return f"{method}, over {self.count} groups" if self.clustered else method

    def estimate(self, whole: Psi, within: Sequence[Psi] = ()) -> tuple[float, Influence]:
        """Variance of a score of these units, and its influences, from those of the rows.

        ``whole`` (rows,) is the influence of each row, ``within`` that of the rows of each of the two halves under the
        half's own statistic; any constant may be added to each. Without halves V is taken as it is.
        """
        psi = self._by_unit(whole, slice(None))
        own = float(psi @ psi) / max(1, self.count - 1)
        half = None
        if within:
            half = np.zeros(self.count)
            for rows, part in zip(self.halves, within, strict=True):
                share = self._by_unit(part, rows)
                members = int(self._members(rows).sum())
                half += share * np.sqrt(max(1, self.count - 1) / (2 * max(1, members - 1)))
        influence = replace(self.influence(psi, half), within=self._within(whole))
        corrected = own if half is None else variance(own, float(half @ half) / max(1, self.count - 1))
        return corrected / self.count, influence

    def total(self, values: Float64[np.ndarray, " rows"]) -> Float64[np.ndarray, " units"]:
        """The sum of a value of each row by unit."""
        return values if self.owner is None else np.bincount(self.owner, values, minlength=self.count)

    def influence(self, psi: Float64[np.ndarray, " units"], half: Float64[np.ndarray, " units"] | None) -> Influence:
        """The stored form of the centered influences of the units."""
        narrow = None if half is None else half.astype(np.float32)
        return Influence(self.count, psi.astype(np.float32), narrow, student=self.clustered)

    def _within(self, psi: Psi) -> Float32[np.ndarray, " rows"] | None:
        """Each row's influence beside the mean of its group, scaled for the mean that is taken off."""
        if self.owner is None:
            return None
        sizes = np.bincount(self.owner)
        if sizes.min() < 2:
            return None
        means = np.bincount(self.owner, psi) / sizes
        scale = np.sqrt(sizes / (sizes - 1))
        return np.asarray((psi - means[self.owner]) * scale[self.owner], np.float32)

    def _by_unit(self, psi: Psi, rows: slice | np.ndarray) -> Float64[np.ndarray, " units"]:
        """Centered sums of a part of the rows by unit, so scaled that the mean over rows is that over units."""
        values = np.asarray(psi, np.float64)
        values = values - values.mean()
        if self.owner is None:
            sums = np.zeros(self.count)
            sums[rows] = values
            return sums
        members = int(self._members(rows).sum())
        return np.bincount(self.owner[rows], values, minlength=self.count) * (members / len(values))

    def _members(self, rows: slice | np.ndarray) -> np.ndarray:
        """Which units have any of these rows."""
        there = np.zeros(self.count, bool)
        there[rows if self.owner is None else self.owner[rows]] = True
        return there
