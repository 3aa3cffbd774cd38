"""Votes: who won each comparison of two players, in whose opinion, on which item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from evalsvc.metrics.score import MetricError

Entries: TypeAlias = Sequence[Any] | Shaped[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Votes:
    """One entry a vote: both players, the points of the first (1 a win, 1/2 a tie, 0 a loss), rater and item.

    Raters and items are numbered from 0. Votes of one rater depend on each other by his taste, and votes on one item by
    the samples that the players made for it.
    """

    first: Int64[np.ndarray, " n"]
    second: Int64[np.ndarray, " n"]
    points: Float64[np.ndarray, " n"]
    raters: Int64[np.ndarray, " n"]
    items: Int64[np.ndarray, " n"]

    @classmethod
    def of(
        cls,
        first: Entries,
        second: Entries,
        points: Entries,
        raters: Entries,
        items: Entries,
    ) -> Votes:
        """Votes by players' numbers, with raters and items named by anything hashable.

        Raises:
            MetricError: the lengths differ, points are not 1, 1/2 or 0, or a player meets itself.
        """
        if not len(first) == len(second) == len(points) == len(raters) == len(items):
            raise MetricError("votes need one entry each in first, second, points, raters and items")
        a, b, won = np.array(first, np.int64), np.array(second, np.int64), np.array(points, np.float64)
        if not np.isin(won, (0, 0.5, 1)).all():
            raise MetricError("points of a vote must be 1 (the first won), 0.5 (a tie) or 0 (the second won)")
        if (a == b).any():
            raise MetricError("a vote compares a player with itself")
        return cls(a, b, won, _numbered(raters), _numbered(items))

    def counts(self, players: int) -> tuple[Float64[np.ndarray, "p p"], Float64[np.ndarray, "p p"]]:
        """How often each player beat each other one, and how often they tied (symmetric)."""
        wins, ties = np.zeros((players, players)), np.zeros((players, players))
        np.add.at(wins, (self.first, self.second), self.points == 1)
        np.add.at(wins, (self.second, self.first), self.points == 0)
        np.add.at(ties, (self.first, self.second), self.points == 0.5)
        return wins, ties + ties.T

    def once_an_item(self) -> Votes:
        """The first vote of each outcome of two players on each item."""
        rows = np.stack([self.first, self.second, self.points * 2, self.items]).astype(np.int64)
        kept = np.sort(np.unique(rows, axis=1, return_index=True)[1])
        return Votes(self.first[kept], self.second[kept], self.points[kept], self.raters[kept], self.items[kept])

    def among(self, group: Int64[np.ndarray, " g"]) -> Votes:
        """The votes between players of ``group``, which are numbered in its order."""
        place = np.full(max(self.first.max(initial=0), self.second.max(initial=0), group.max(initial=0)) + 1, -1)
        place[group] = np.arange(len(group))
        first, second = place[self.first], place[self.second]
        kept = (first >= 0) & (second >= 0)
        raters, items = self.raters[kept], self.items[kept]
        return Votes(first[kept], second[kept], self.points[kept], _numbered(raters), _numbered(items))


def _numbered(names: Entries) -> Int64[np.ndarray, " n"]:
    number: dict[object, int] = {}
    return np.array([number.setdefault(name, len(number)) for name in names], np.int64)
