"""Which items got worse and which better between two checkpoints, paired by the names of the items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from evalsvc.analysis.item_measures import ItemMeasure, measures_of
from evalsvc.analysis.item_rows import ItemRow, target_of
from evalsvc.analysis.items import ItemSample, ItemTable
from evalsvc.core.errors import InputError


@dataclass(frozen=True)
class ItemChange:
    """One item on both sides: the means over its draws, b minus a, and the draw that changed most on each side."""

    item: ItemRow
    value_a: float
    value_b: float
    difference: float
    sample_a: ItemSample
    sample_b: ItemSample


@dataclass(frozen=True)
class ItemDifferences:
    """Items that both sides scored, from the one that got worst to the one that improved most.

    ``rows_a`` and ``rows_b`` are the rows of each item in the item sets, ``values_a`` and ``values_b`` the means over
    its draws, ``unpaired`` the number of items that only one side scored, and ``changed`` that of items whose target
    differs between the sides, which are left out.
    """

    a: ItemTable
    b: ItemTable
    of: ItemMeasure
    rows_a: Int64[np.ndarray, " m"]
    rows_b: Int64[np.ndarray, " m"]
    values_a: Float64[np.ndarray, " m"]
    values_b: Float64[np.ndarray, " m"]
    unpaired: int
    changed: int

    def __len__(self) -> int:
        return len(self.rows_a)

    @property
    def differences(self) -> Float64[np.ndarray, " m"]:
        """b minus a, item by item."""
        change: Float64[np.ndarray, " m"] = self.values_b - self.values_a
        return change

    @property
    def worse(self) -> int:
        """Number of items that got worse; they come first."""
        return int((self.of.sign * self.differences > 0).sum())

    @property
    def better(self) -> int:
        """Number of items that got better; they come last."""
        return int((self.of.sign * self.differences < 0).sum())

    def regressions(self, most: int, start: int = 0) -> Iterator[ItemChange]:
        """The items that got worse, the largest change first."""
        return self._changes(range(start, min(start + most, self.worse)))

    def improvements(self, most: int, start: int = 0) -> Iterator[ItemChange]:
        """The items that got better, the largest change first."""
        end = len(self) - 1
        return self._changes(range(end - start, end - min(start + most, self.better), -1))

    def _changes(self, places: range) -> Iterator[ItemChange]:
        values = self.a.values(self.of), self.b.values(self.of)
        for place in places:
            of_a, of_b = (
                np.flatnonzero(table.items == rows[place])
                for table, rows in ((self.a, self.rows_a), (self.b, self.rows_b))
            )
            number_a, number_b = self._shown(of_a, of_b, *values)
            (sample_a,), (sample_b,) = self.a.listed([number_a], self.of), self.b.listed([number_b], self.of)
            yield ItemChange(
                sample_b.item,
                float(self.values_a[place]),
                float(self.values_b[place]),
                float(self.differences[place]),
                sample_a,
                sample_b,
            )

    def _shown(
        self,
        of_a: Int64[np.ndarray, " p"],
        of_b: Int64[np.ndarray, " q"],
        values_a: Float64[np.ndarray, " n"],
        values_b: Float64[np.ndarray, " k"],
    ) -> tuple[int, int]:
        """The shared draw of an item that changed most in the direction of its mean; else the extreme draw of each."""
        _, in_a, in_b = np.intersect1d(self.a.draws[of_a], self.b.draws[of_b], return_indices=True)
        change = values_b[of_b[in_b]] - values_a[of_a[in_a]]
        if np.isfinite(change).any():
            towards = np.sign(np.nansum(change)) or 1.0
            place = int(np.nanargmax(towards * change))
            return int(of_a[in_a[place]]), int(of_b[in_b[place]])
        return int(of_a[np.nanargmax(values_a[of_a])]), int(of_b[np.nanargmax(values_b[of_b])])


def item_differences(a: ItemTable, b: ItemTable, name: str | None) -> ItemDifferences:
    """Pair the items of two evaluations by their names, also where the item sets differ, and sort by the change.

    Raises:
        InputError: a suite has no such measure, the scorers differ, or no item has a value on both sides.
    """
    of = b.measure(name)
    if replace(of, tag="", value="") not in measures_of(a.spec["suite"]).values():
        raise InputError(f"{a.suite} does not score {of.key} as {b.suite} does: choose one suite")
    protocols = [table.spec.get("scorers", {}).get(of.scorer) for table in (a, b)]
    if protocols[0] != protocols[1]:
        raise InputError(
            f"scorer {of.scorer} has protocol {protocols[0]} in {a.name} and {protocols[1]} in {b.name}, so that "
            "their items are not comparable: score both with one version"
        )
    (rows_a, means_a), (rows_b, means_b) = a.means(of), b.means(of)
    scored = len(rows_a), len(rows_b)
    changed = 0
    if a.facts["items"] == b.facts["items"]:
        _, in_a, in_b = np.intersect1d(rows_a, rows_b, assume_unique=True, return_indices=True)
    else:
        places = {a.ids[row]: place for place, row in enumerate(rows_a)}
        names = [b.ids[row] for row in rows_b]
        pairs = [(places[name], place) for place, name in enumerate(names) if name in places]
        same = [(i, k) for i, k in pairs if target_of(a.item_set, rows_a[i]) == target_of(b.item_set, rows_b[k])]
        changed = len(pairs) - len(same)
        in_a, in_b = np.array(same, np.int64).reshape(-1, 2).T
    if not len(in_a):
        raise InputError(f"{a.name} and {b.name} share no items with a value of {of.key}: compare others")
    order = np.argsort(-of.sign * (means_b[in_b] - means_a[in_a]), kind="stable")
    in_a, in_b = in_a[order], in_b[order]
    unpaired = sum(scored) - 2 * (len(in_a) + changed)
    return ItemDifferences(a, b, of, rows_a[in_a], rows_b[in_b], means_a[in_a], means_b[in_b], unpaired, changed)
