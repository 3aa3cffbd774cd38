"""Sums of a kernel over the pairs within a set and across two, from blocks of squared distances."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float64, Int64

from evalsvc.metrics.distances import Block, exact, sweep
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.points import Points, cached_rows

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Kernel:
    """``finish((own(x) + own(y)) / 2 - slope |x - y|^2)``: a kernel by the squared distance and what each row has.

    ``own`` gives the argument of each row with itself; ``finish`` works in place.
    """

    slope: float
    own: Callable[[Points], Float64[Tensor, " n"]]
    finish: Callable[[Tensor], Tensor]


def polynomial(degree: int, gamma: float, coef: float) -> Kernel:
    """``(gamma x'y + coef)^degree``."""

    def own(x: Points) -> Float64[Tensor, " n"]:
        return torch.cat([block.square().sum(1) for block in x.blocks()]).mul_(gamma).add_(coef)

    return Kernel(gamma / 2, own, lambda argument: argument.pow_(degree))


def rbf(sigma: float) -> Kernel:
    """``exp(-|x - y|^2 / (2 sigma^2))``."""
    return Kernel(0.5 / sigma**2, lambda x: torch.zeros_like(x.norms), lambda argument: argument.clamp_(max=0).exp_())


@dataclass(frozen=True)
class KernelSet:
    """One set as a kernel sees it: what each row adds to the argument, the kernel of each with itself, and subsets.

    ``members`` (s, n) holds 1 where a row belongs to a subset.
    """

    kernel: Kernel
    points: Points
    addend: Float64[Tensor, " n"]
    diagonal: Float64[Tensor, " n"]
    members: Float[Tensor, "s n"]

    @classmethod
    def of(cls, points: Points, kernel: Kernel, subsets: Int64[np.ndarray, "s size"] | None = None) -> KernelSet:
        """A set with the rows of each subset."""
        own, unit = kernel.own(points), points.scale**2
        members = points.low.new_zeros((0 if subsets is None else len(subsets), len(points)))
        if subsets is not None:
            members.scatter_(1, torch.from_numpy(subsets).to(points.device), 1)
        # Blocks hold squared distances less what both rows have between their norms and `low`.
        addend = own / 2 - kernel.slope / unit * (points.norms - points.low.double())
        return cls(kernel, points, addend, kernel.finish(own), members)

    def tiles(self, block: Block, other: KernelSet) -> Iterator[tuple[slice, Tensor]]:
        """The kernel in a block, a few rows at a time."""
        step = cached_rows(block.lower.device)
        slope = self.kernel.slope / self.points.scale**2
        for start, lower in enumerate(torch.split(block.lower, step)):
            rows = slice(block.rows.start + start * step, block.rows.start + start * step + len(lower))
            argument = torch.sub(other.addend[block.columns], lower, alpha=slope).add_(self.addend[rows, None])
            yield rows, self.kernel.finish(argument)

    def part(self, rows: Int64[Tensor, " r"]) -> KernelSet:
        """Some of the rows, without subsets."""
        return KernelSet.of(self.points.take(rows), self.kernel)

    def matrix(self) -> Float64[Tensor, "n n"]:
        """The kernel of all pairs of few rows."""
        found = self.addend.new_zeros((len(self.addend), len(self.addend)))
        for block in sweep(self.points, self.points):
            for rows, tile in self.tiles(block, self):
                found[rows, block.columns] = tile.double()
        return found

    def between(self, i: Int64[Tensor, " p"], j: Int64[Tensor, " p"]) -> Float64[Tensor, " p"]:
        """The kernel of single pairs of rows."""
        slope = self.kernel.slope / self.points.scale**2
        half_own = self.addend + slope * (self.points.norms - self.points.low.double())
        return self.kernel.finish(half_own[i] + half_own[j] - slope * exact(self.points, i, self.points, j))

    def within_subsets(self, tile: Tensor, rows: slice, other: KernelSet, columns: slice) -> Float64[Tensor, " s"]:
        """The sum over the pairs of each subset, in the precision of the tile's products once its mean is off."""
        mine, others = self.members[:, rows], other.members[:, columns]
        middle = tile.mean()
        sums = (mine @ (tile - middle).to(mine.dtype)).mul_(others).sum(1, dtype=torch.float64)
        return sums + middle * mine.sum(1, dtype=torch.float64) * others.sum(1, dtype=torch.float64)


class Within:
    """Sums of the kernel over ordered pairs of different rows of one set: by row, of squares, and within subsets."""

    def __init__(self, of: KernelSet) -> None:
        self.of = of
        self.rows, self.subsets = torch.zeros_like(of.addend), of.addend.new_zeros(len(of.members))
        self.squares = of.addend.new_zeros(())

    @classmethod
    def all(cls, of: KernelSet) -> Within:
        """The sums over a set by itself."""
        sums = cls(of)
        for block in sweep(of.points, of.points, symmetric=True):
            sums.see(block)
        return sums

    def see(self, block: Block) -> None:
        """Add a block of a symmetric sweep."""
        j = block.columns
        diagonal = block.rows == j
        twice = 1 if diagonal else 2
        for i, tile in self.of.tiles(block, self.of):
            if diagonal:
                tile.diagonal(i.start - j.start).zero_()
            else:
                self.rows[j] += tile.sum(0)
            self.rows[i] += tile.sum(1)
            self.squares += twice * torch.dot(tile.flatten(), tile.flatten())
            if len(self.subsets):
                self.subsets += twice * self.of.within_subsets(tile, i, self.of, j)

    def mean(self, biased: bool) -> Tensor:
        """Mean kernel, with the diagonal where ``biased``."""
        n = len(self.rows)
        return (self.rows + self.of.diagonal).sum() / n**2 if biased else self.rows.sum() / (n * (n - 1))

    def subset_means(self, size: int, biased: bool) -> Float64[Tensor, " s"]:
        """The same of each subset of ``size`` rows."""
        if biased:
            return (self.subsets + self.of.members.double() @ self.of.diagonal) / size**2
        return self.subsets / (size * (size - 1))


class Across:
    """Sums of the kernel over all rows of one set for each column of the other, and over the pairs within subsets.

    ``rows`` (n, parts) are the sums for each row over each of the ``parts`` of the columns, if any are given.
    """

    def __init__(self, rows: KernelSet, columns: KernelSet, parts: Sequence[np.ndarray] = ()) -> None:
        self.of = rows, columns
        self.columns, self.subsets = torch.zeros_like(columns.addend), rows.addend.new_zeros(len(rows.members))
        self.parts = columns.addend.new_zeros((len(columns.addend), len(parts)))
        for part, members in enumerate(parts):
            self.parts[torch.from_numpy(members), part] = 1
        self.rows = rows.addend.new_zeros((len(rows.addend), len(parts)))

    @classmethod
    def all(cls, rows: KernelSet, columns: KernelSet, parts: Sequence[np.ndarray] = ()) -> Across:
        """The sums over two sets by themselves."""
        sums = cls(rows, columns, parts)
        for block in sweep(rows.points, columns.points):
            sums.see(block)
        return sums

    def see(self, block: Block) -> None:
        """Add a block of a sweep."""
        rows, columns = self.of
        j = block.columns
        for i, tile in rows.tiles(block, columns):
            self.columns[j] += tile.sum(0)
            if self.rows.shape[1]:
                self.rows[i] += tile @ self.parts[j]
            if len(self.subsets):
                self.subsets += rows.within_subsets(tile, i, columns, j)
