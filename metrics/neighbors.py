"""Nearest neighbors, exactly: distances, indices and the radii of k-nearest-neighbor balls."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64, Num

from evalsvc.metrics.arrays import as_matrix, same_width
from evalsvc.metrics.distances import Block, exact, flatnonzero, sweep
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.pairs import Plan, Visitor, over_pairs
from evalsvc.metrics.points import Points
from evalsvc.metrics.score import MetricError

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

_SEARCHED_AGAIN = 8192


class Neighbors(NamedTuple):
    """The k nearest points of each query, nearest first."""

    distances: Float64[np.ndarray, "n k"]
    indices: Int64[np.ndarray, "n k"]


@over_pairs
def nearest_neighbors(generated: Num[Array, "n d"], train: Num[Array, "m d"], k: int = 1) -> Plan[Neighbors]:
    """Euclidean distances (n, k) to, and indices (n, k) of, the ``k`` rows of ``train`` nearest to each generated row.

    Nearest first, equal distances by lower index; exact in float64 for any dtype of the rows. Raises
    :class:`MetricError` where ``train`` has fewer than ``k`` rows, the widths differ, or a value is not finite.

    >>> nearest_neighbors(np.array([[0.0], [9.0]]), np.array([[1.0], [5.0], [8.0]]), k=2).indices.tolist()
    [[0, 1], [2, 1]]
    """
    queries, points = as_matrix(generated, "generated"), as_matrix(train, "train")
    same_width(queries, points, ("generated", "train"))
    if not 1 <= k <= len(points):
        raise MetricError(f"train has {len(points)} rows, too few for k = {k} neighbors")
    return Plan(queries, points, functools.partial(Nearest, k=k))


class Nearest(Visitor[Neighbors]):
    """Finds the ``k`` rows of ``train`` nearest to each generated one among the pairs across."""

    seeks = frozenset({"across"})

    def __init__(self, train: Points, generated: Points, k: int) -> None:
        self.train, self.generated, self.k = train, generated, k
        self.listed = Shortlist.of_some(train, generated, k)

    def across(self, block: Block) -> None:
        """Take in a block of reference rows against generated columns."""
        self.listed.offer_columns(block)

    def exactly(self) -> tuple[Float64[Tensor, "n k"], Int64[Tensor, "n k"]]:
        """Exact squared distances (scaled units) and indices."""
        return _settle(self.listed, self.generated, self.train, self.k, None)

    def result(self) -> Neighbors:
        """The same as distances."""
        squared, indices = self.exactly()
        return Neighbors((squared.sqrt() / self.train.scale).cpu().numpy(), indices.cpu().numpy())


def knn(
    queries: Points, points: Points, k: int, own: Int64[Tensor, " n"] | None = None
) -> tuple[Float64[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """Exact squared distances (scaled units) and indices of the k nearest points; ``own[i]`` is never one of i's."""
    nearest = Shortlist.of_some(points, queries, k)
    for block in sweep(queries, points):
        nearest.offer(block, own)
    return _settle(nearest, queries, points, k, own)


@dataclass
class Shortlist:
    """For each row the ``size`` smallest lower bounds met so far, sorted, and whose they are; every other is larger."""

    keys: Float[Tensor, "n size"]
    indices: Int64[Tensor, "n size"]

    @classmethod
    def empty(cls, n: int, size: int, like: Points) -> Shortlist:
        """A list that anything enters."""
        shape, device = (n, size), like.device
        return cls(
            torch.full(shape, torch.inf, dtype=like.low.dtype, device=device),
            torch.full(shape, -1, dtype=torch.int64, device=device),
        )

    @classmethod
    def of_some(cls, points: Points, queries: Points, k: int) -> Shortlist:
        """A list for each query, long enough to be sure of its k nearest points nearly always."""
        return cls.empty(len(queries), min(len(points), 2 * k + 8), queries)

    @classmethod
    def of_others(cls, points: Points, size: int) -> Shortlist:
        """A list for each point, to be filled by a symmetric sweep."""
        return cls.empty(len(points), min(size, len(points) - 1), points)

    @property
    def limit(self) -> Float[Tensor, " n"]:
        """The bound that a new key must be below; squared distances are not negative, so a list of zeros is closed."""
        last = self.keys[:, -1]
        return torch.where(last > 0, last, -torch.inf)

    def offer(self, block: Block, own: Int64[Tensor, " n"] | None = None) -> None:
        """Enter the pairs of a block of a sweep into the lists of its rows."""
        if own is not None:
            _strike(block, own)
        if block.columns.start == 0:
            self._begin(block.rows, block.columns, block.lower)
        else:
            self._enter_rows(block)

    def offer_columns(self, block: Block) -> None:
        """Enter the pairs of a block of a sweep into the lists of its columns."""
        if block.rows.start == 0:
            self._begin(block.columns, block.rows, block.lower.T)
        else:
            self._enter_columns(block)

    def offer_both(self, block: Block) -> None:
        """Enter the pairs of one block of a symmetric sweep into the lists of its rows and of its columns."""
        if block.rows == block.columns:
            self._begin(block.rows, block.columns, block.lower)
        else:
            self._enter_rows(block)
            self._enter_columns(block)

    def _enter_rows(self, block: Block) -> None:
        for row, column, key in block.below(block.lower < self.limit[block.rows, None]):
            self.enter(block.rows, row, column, key)

    def _enter_columns(self, block: Block) -> None:
        for row, column, key in block.below(block.lower < self.limit[None, block.columns]):
            self.enter(block.columns, column, row, key)

    def enter(
        self, rows: slice, row: Int64[Tensor, " p"], index: Int64[Tensor, " p"], key: Float[Tensor, " p"]
    ) -> None:
        """Enter single pairs, each to the list of its row, which is one of ``rows``."""
        if not len(row):
            return
        keys, indices, row = self.keys[rows], self.indices[rows], row - rows.start
        size = keys.shape[1]
        met = torch.zeros(len(keys), dtype=torch.int64, device=row.device).index_add_(0, row, torch.ones_like(row))
        # A device sorts the lists of all rows sooner than it tells which ones are met.
        touched = flatnonzero(met > 0) if row.device.type == "cpu" else torch.arange(len(keys), device=row.device)
        place = torch.empty_like(met)
        place[touched] = torch.arange(len(touched), device=row.device)
        counts = met[touched] + size
        slot = torch.cat([place[touched].repeat_interleave(size), place[row]])
        key = torch.cat([keys[touched].flatten(), key.clamp(min=0)])
        index = torch.cat([indices[touched].flatten(), index])
        # Keys are not negative, so their bits sort as they do, and integers are sorted twenty times faster.
        order = key.view(torch.int32 if key.dtype == torch.float32 else torch.int64).argsort(stable=True)
        order = order[slot[order].int().argsort(stable=True)]
        kept = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(size, device=row.device)]
        keys[touched], indices[touched] = key[kept], index[kept]

    def _begin(self, rows: slice, columns: slice, lower: Tensor) -> None:
        size = min(self.keys.shape[1], lower.shape[1])
        key, index = lower.topk(size, dim=1, largest=False)
        self.keys[rows, :size] = key.clamp(min=0)
        self.indices[rows, :size] = torch.where(key < torch.inf, index + columns.start, -1)


def symmetric_shortlist(points: Points, size: int) -> Shortlist:
    """The shortlist of every point among the others."""
    nearest = Shortlist.of_others(points, size)
    for block in sweep(points, points, symmetric=True):
        nearest.offer_both(block)
    return nearest


def squared_radii(nearest: Shortlist, points: Points, k: int) -> Float64[Tensor, " n"]:
    """Exact squared distance of each point to its k-th nearest other one, from its shortlist."""
    return kth_neighbors(nearest, points, k)[0]


def kth_neighbors(nearest: Shortlist, points: Points, k: int) -> tuple[Float64[Tensor, " n"], Int64[Tensor, " n"]]:
    """The same, and which one that is; of several at one distance any."""
    own = torch.arange(len(points), device=points.device)
    squared, indices = _settle(nearest, points, points, k, own, last_only=True)
    return squared[:, -1], indices[:, -1]


def _settle(
    nearest: Shortlist, x: Points, y: Points, k: int, own: Int64[Tensor, " n"] | None, *, last_only: bool = False
) -> tuple[Float64[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """The exact k nearest of each list; rows whose list is too short to be sure are searched again.

    With ``last_only`` only the last column is computed, and ties may name either index.
    """
    lower, indices = nearest.keys.double(), nearest.indices
    listed = indices >= 0
    upper = torch.where(listed, lower + x.slack[:, None] + y.slack[indices], torch.inf)
    wanted = listed & (lower <= upper.topk(k, dim=1, largest=False).values[:, -1:])
    squared = torch.full_like(lower, torch.inf)
    if last_only:
        nearer = upper < lower[:, k - 1, None]
        wanted &= ~nearer
        squared.masked_fill_(nearer, -1.0)
    row, slot = wanted.nonzero(as_tuple=True)
    squared[row, slot] = exact(x, row, y, indices[row, slot])
    by_index = indices.argsort(dim=1, stable=True)
    order = by_index.gather(1, squared.gather(1, by_index).argsort(dim=1, stable=True))[:, :k]
    squared, indices = squared.gather(1, order), indices.gather(1, order)
    complete = nearest.keys.shape[1] >= len(y) - (own is not None)
    last = squared[:, -1]
    sure = (lower[:, -1] >= last) if last_only else (lower[:, -1] > last)
    for unsure in () if complete else torch.split(flatnonzero(~sure), _SEARCHED_AGAIN):
        if not len(unsure):
            break
        again = x.take(unsure), None if own is None else own[unsure]
        if x.low.dtype == torch.float32:
            double = again[0].within(torch.float64), y.within(torch.float64)
            squared[unsure], indices[unsure] = knn(*double, k, again[1])
        else:
            squared[unsure], indices[unsure] = _among_ties(again[0], y, k, again[1], last[unsure])
    return squared, indices


def _among_ties(
    x: Points, y: Points, k: int, own: Int64[Tensor, " n"] | None, bound: Float64[Tensor, " n"]
) -> tuple[Float64[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """The k nearest where float64 products cannot tell: every pair that may be within ``bound`` is measured."""
    nearest = Shortlist.empty(len(x), k, x)
    for block in sweep(x, y):
        if own is not None:
            _strike(block, own)
        for row, column, _ in block.below(block.lower <= bound[block.rows, None]):
            nearest.enter(block.rows, row, column, exact(x, row, y, column))
    return nearest.keys, nearest.indices


def _strike(block: Block, own: Int64[Tensor, " n"]) -> None:
    """Remove the pair of each row with its own column, where the block has it."""
    column = own[block.rows, None] - block.columns.start
    at = column.clamp(0, block.lower.shape[1] - 1)
    block.lower.scatter_(1, at, block.lower.gather(1, at).masked_fill_(column == at, torch.inf))
