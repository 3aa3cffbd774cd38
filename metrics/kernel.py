"""Kernel distance (squared maximum mean discrepancy): KID of Binkowski et al. 2018, CMMD of Jayasumana et al. 2024."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Num
from torch import Tensor

from metrics.arrays import Array, as_matrix, blocks, same_width
from metrics.distances import Block, Points, sweep
from metrics.influence import LEAST, TOO_FEW
from metrics.pairs import Plan, Side, Visitor, over_pairs
from metrics.registry import Quantity, metric, score
from metrics.score import Z95, Direction, MetricError, Score

_WITNESSES = 2000

Draws = list[tuple[Tensor, Tensor]]


@metric(Quantity("kernel_distance", Direction.LOWER, unit="squared kernel units"), version=1)
@over_pairs
def kernel_distance(
    generated: Num[Array, "n d"],
    reference: Num[Array, "m d"],
    subsets: int | None = 100,
    subset_size: int = 1000,
    degree: int = 3,
    gamma: float | int | None = None,
    coef: float | int = 1.0,
    seed: int = 2020,
    kernel: Literal["polynomial", "rbf"] = "polynomial",
    sigma: float | int = 10.0,
    biased: bool = False,
) -> Plan[Score]:
    """Squared maximum mean discrepancy; lower is better, 0 is equal, and the unbiased estimate may be negative.

    The kernel is ``(gamma x'y + coef)^degree`` with gamma = 1 / d unless given, or ``exp(-|x - y|^2 / (2 sigma^2))``.
    With ``subsets`` the value is the literature's KID: the mean over random subsets of ``subset_size`` rows of both
    sets, drawn by one ``RandomState(seed)``, generated first, as torch-fidelity draws them; ``details["std"]`` is
    their standard deviation (ddof 0). With ``subsets=None`` it is the U-statistic over all pairs: no noise of subsets.
    CMMD is ``kernel="rbf", biased=True, subsets=None`` on L2-normalised CLIP embeddings; its papers print this value
    **times 1000**.

    The standard error speaks of the expected value at this n against this fixed reference. Its square is the closed
    form for a U-statistic of degree two, ``(4 V - 2 Z / n) / n``, not less than ``2 Z / n^2``: V the variance of a
    sample's mean kernel to its own set less that to the reference, Z the variance of a single pair. With subsets, their
    variance over their number is added. The variance grows with the distance, so that the interval reaches further up
    than down. There is none for n < 20.

    Inner products of float32 features are float32, everything after them float64.

    Raises :class:`MetricError` on fewer rows than ``subset_size`` (or two), a single subset, unequal widths, NaN or
    infinity.

    >>> x = np.random.default_rng(0).standard_normal((500, 8))
    >>> kernel_distance(x + 1.0, x, subsets=None).value > 10 * kernel_distance(x, -x, subsets=None).value
    True
    """
    if subsets is not None and (subsets < 2 or subset_size < 2):
        raise MetricError("subsets and subset_size must be at least 2; subsets=None takes all pairs instead")
    x, y = as_matrix(generated, "generated", 2), as_matrix(reference, "reference", 2)
    same_width(x, y)
    n, m = len(x), len(y)
    if subsets is not None and min(n, m) < subset_size:
        raise MetricError(
            f"{subset_size} rows a subset cannot be drawn from {n} generated and {m} reference rows; "
            "lower subset_size, or give subsets=None for all pairs"
        )
    if kernel not in ("polynomial", "rbf"):
        raise MetricError(f"there is no kernel {kernel!r}; there are 'polynomial' and 'rbf'")
    of = _RBF(sigma) if kernel == "rbf" else _Polynomial(degree, 1 / x.shape[1] if gamma is None else gamma, coef)
    draws = [] if subsets is None else list(_draws(n, m, subsets, subset_size, seed))
    narrow = kernel == "polynomial" and x.dtype == y.dtype == torch.float32
    dtype = torch.float32 if narrow else torch.float64
    if _one_by_one(n, m, len(draws), subset_size):
        return Plan(x, y, lambda y, x: _OneByOne(x, y, of, draws, biased, seed), dtype=dtype)
    return Plan(x, y, lambda y, x: _InOnePass(x, y, of, draws, biased), dtype=dtype)


def _draws(n: int, m: int, subsets: int, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    rng = np.random.RandomState(seed)
    for _ in range(subsets):
        generated = rng.choice(n, size, replace=False)
        yield torch.from_numpy(generated), torch.from_numpy(rng.choice(m, size, replace=False))


def _one_by_one(n: int, m: int, subsets: int, size: int) -> bool:
    """Whether separate subsets cost less than all pairs, counted in inner products."""
    all_pairs = n**2 / 2 + m**2 / 2 + n * m
    return subsets > 0 and subsets * 4 * size**2 + min(n, _WITNESSES) * (n + m) < all_pairs


class _Kernel(ABC):
    """``finish((own(x) + own(y)) / 2 - slope |x - y|^2)``: a kernel by the squared distance and what each row has."""

    slope: float

    @abstractmethod
    def own(self, x: Points) -> Float64[Tensor, " n"]:
        """The argument of each row with itself."""

    @abstractmethod
    def finish(self, argument: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
        """The kernel, in place."""


class _Polynomial(_Kernel):
    def __init__(self, degree: int, gamma: float, coef: float) -> None:
        self.degree, self.gamma, self.coef, self.slope = degree, gamma, coef, gamma / 2

    def own(self, x: Points) -> Float64[Tensor, " n"]:
        return torch.cat([block.square().sum(1) for block in blocks(x.raw, 256)]).mul_(self.gamma).add_(self.coef)

    def finish(self, argument: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
        return argument.pow_(self.degree)


class _RBF(_Kernel):
    def __init__(self, sigma: float) -> None:
        self.slope = 0.5 / sigma**2

    def own(self, x: Points) -> Float64[Tensor, " n"]:
        return torch.zeros_like(x.norms)

    def finish(self, argument: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
        return argument.clamp_(max=0).exp_()


@dataclass(frozen=True)
class _Set:
    """One set as a kernel sees it: what each row adds to the argument, the kernel of each with itself, and subsets.

    ``members`` (s, n) holds 1 where a row belongs to a subset.
    """

    kernel: _Kernel
    points: Points
    addend: Float64[Tensor, " n"]
    diagonal: Float64[Tensor, " n"]
    members: Float[Tensor, "s n"]

    @classmethod
    def of(cls, points: Points, kernel: _Kernel, subsets: list[Tensor] | None = None) -> _Set:
        own, unit = kernel.own(points), points.scale**2
        members = points.low.new_zeros((len(subsets or ()), len(points)))
        for subset, rows in enumerate(subsets or ()):
            members[subset, rows] = 1
        # Blocks hold squared distances less what both rows have between their norms and `low`.
        addend = own / 2 - kernel.slope / unit * (points.norms - points.low.double())
        return cls(kernel, points, addend, kernel.finish(own), members)

    def tiles(self, block: Block, other: _Set) -> Iterator[tuple[slice, slice, Tensor]]:
        """The kernel in a block, a few rows at a time: a CPU's stay in its cache, another's are worth the launch."""
        step = 256 if block.lower.device.type == "cpu" else 4096
        slope = self.kernel.slope / self.points.scale**2
        for start, lower in enumerate(torch.split(block.lower, step)):
            rows = slice(block.rows.start + start * step, block.rows.start + start * step + len(lower))
            argument = torch.sub(other.addend[block.columns], lower, alpha=slope).add_(self.addend[rows, None])
            yield rows, block.columns, self.kernel.finish(argument)

    def within_subsets(self, tile: Tensor, rows: slice, other: _Set, columns: slice) -> Float64[Tensor, " s"]:
        """The sum over the pairs of each subset, in the precision of the tile's products once its mean is off."""
        mine, others = self.members[:, rows], other.members[:, columns]
        middle = tile.mean()
        sums = (mine @ (tile - middle).to(mine.dtype)).mul_(others).sum(1, dtype=torch.float64)
        return sums + middle * mine.sum(1, dtype=torch.float64) * others.sum(1, dtype=torch.float64)


class _Within:
    """Sums of the kernel over ordered pairs of different rows of one set: by row, of squares, and within subsets."""

    def __init__(self, of: _Set) -> None:
        self.of = of
        self.rows, self.subsets = torch.zeros_like(of.addend), of.addend.new_zeros(len(of.members))
        self.squares = 0.0

    @classmethod
    def all(cls, points: Points, kernel: _Kernel) -> _Within:
        sums = cls(_Set.of(points, kernel))
        for block in sweep(points, points, symmetric=True):
            sums.see(block)
        return sums

    def see(self, block: Block) -> None:
        """Add a block of a symmetric sweep."""
        diagonal = block.rows == block.columns
        twice = 1 if diagonal else 2
        for i, j, tile in self.of.tiles(block, self.of):
            if diagonal:
                tile.diagonal(i.start - j.start).zero_()
            else:
                self.rows[j] += tile.sum(0)
            self.rows[i] += tile.sum(1)
            self.squares += twice * float(torch.dot(tile.flatten(), tile.flatten()))
            if len(self.subsets):
                self.subsets += twice * self.of.within_subsets(tile, i, self.of, j)

    def mean(self, biased: bool) -> Tensor:
        n = len(self.rows)
        return (self.rows + self.of.diagonal).sum() / n**2 if biased else self.rows.sum() / (n * (n - 1))

    def subset_means(self, size: int, biased: bool) -> Tensor:
        if biased:
            return (self.subsets + self.of.members.double() @ self.of.diagonal) / size**2
        return self.subsets / (size * (size - 1))


class _Across:
    """Sums of the kernel over all rows of one set for each column of the other, and over the pairs within subsets."""

    def __init__(self, rows: _Set, columns: _Set) -> None:
        self.of = rows, columns
        self.columns, self.subsets = torch.zeros_like(columns.addend), rows.addend.new_zeros(len(rows.members))

    @classmethod
    def all(cls, rows: Points, columns: Points, kernel: _Kernel) -> _Across:
        sums = cls(_Set.of(rows, kernel), _Set.of(columns, kernel))
        for block in sweep(rows, columns):
            sums.see(block)
        return sums

    def see(self, block: Block) -> None:
        """Add a block of a sweep."""
        rows, columns = self.of
        for i, j, tile in rows.tiles(block, columns):
            self.columns[j] += tile.sum(0)
            if len(self.subsets):
                self.subsets += rows.within_subsets(tile, i, columns, j)


class _InOnePass(Visitor[Score]):
    """The distance of every subset, or of everything where there are none, from one pass over all pairs."""

    seeks = frozenset({"reference", "generated", "across"})

    def __init__(self, x: Points, y: Points, kernel: _Kernel, draws: Draws, biased: bool) -> None:
        self.draws, self.biased = draws, biased
        of_x, of_y = _Set.of(x, kernel, [rows for rows, _ in draws]), _Set.of(y, kernel, [rows for _, rows in draws])
        self.sums: dict[Side, _Within] = {"reference": _Within(of_y), "generated": _Within(of_x)}
        self.crossed = _Across(of_y, of_x)

    def within(self, side: Side, block: Block) -> None:
        self.sums[side].see(block)

    def across(self, block: Block) -> None:
        self.crossed.see(block)

    def result(self) -> Score:
        xx, yy = self.sums["generated"], self.sums["reference"]
        n, witness = len(xx.rows), self.crossed.columns / len(yy.rows)
        spread = _Spread.of(xx.rows, xx, witness, n)
        if not self.draws:
            value = xx.mean(self.biased) + yy.mean(self.biased) - 2 * witness.mean()
            return _score(value.reshape(1), spread, n)
        size = len(self.draws[0][0])
        means = xx.subset_means(size, self.biased) + yy.subset_means(size, self.biased)
        return _score(means - 2 * self.crossed.subsets / size**2, spread, n)


class _OneByOne(Visitor[Score]):
    """The distance of every subset by itself, and the spread from some rows: it needs no pass over all pairs."""

    def __init__(self, x: Points, y: Points, kernel: _Kernel, draws: Draws, biased: bool, seed: int) -> None:
        self.x, self.y, self.kernel, self.draws, self.biased, self.seed = x, y, kernel, draws, biased, seed

    def result(self) -> Score:
        values = [self._value(self.x.take(rows), self.y.take(others)) for rows, others in self.draws]
        return _score(torch.stack(values), self._spread(), len(self.x))

    def _value(self, x: Points, y: Points) -> Tensor:
        crossed = _Across.all(y, x, self.kernel).columns.mean() / len(y)
        xx, yy = (_Within.all(points, self.kernel) for points in (x, y))
        return xx.mean(self.biased) + yy.mean(self.biased) - 2 * crossed

    def _spread(self) -> _Spread:
        n = len(self.x)
        some = self.x.take(torch.from_numpy(np.random.RandomState(self.seed).permutation(n)[:_WITNESSES]))
        among = _Within.all(some, self.kernel)
        rows = _Across.all(self.x, some, self.kernel).columns - among.of.diagonal
        return _Spread.of(rows, among, _Across.all(self.y, some, self.kernel).columns / len(self.y), n)


@dataclass(frozen=True)
class _Spread:
    """Variances of the pair function ``h(x, x') = k(x, x') - w(x) - w(x')``, w the mean kernel to the reference.

    V is that of its mean over all partners, Z that of a single pair; ``eigenvalue`` is typical of the centred kernel.
    """

    V: float
    Z: float
    eigenvalue: float

    @classmethod
    def of(cls, rows: Tensor, among: _Within, witness: Tensor, n: int) -> _Spread:
        """From sums of the kernel over the ``n - 1`` partners of some rows, and over the pairs among them."""
        count = len(witness)
        pairs, total = count * (count - 1), float(witness.sum())
        squares = float(witness.square().sum())
        second_moment = among.squares + 2 * (count - 2) * squares + 2 * total**2 - 4 * float(witness @ among.rows)
        off_diagonal = float(among.rows.sum()) / pairs
        Z = max(second_moment / pairs - (off_diagonal - 2 * total / count) ** 2, 0.0)
        trace = float(among.of.diagonal.mean()) - off_diagonal
        return cls(float((rows / (n - 1) - witness).var()), Z, Z / trace if trace > 0 else 0.0)

    def variance(self, n: int) -> float:
        noise = 2 * self.Z / n**2
        return max(4 * self.V / n - noise, noise)

    def interval(self, value: float, variance: float, n: int) -> tuple[float, float]:
        """All distances whose own variance, ``variance + slope (distance - value)``, makes the value likely enough."""
        slope = 4 * self.eigenvalue / n
        middle = value + Z95**2 * slope / 2
        half = Z95 * math.sqrt(variance + (Z95 * slope / 2) ** 2)
        return middle - half, middle + half


def _score(values: Tensor, spread: _Spread, n: int) -> Score:
    """The mean over subsets, or the one value of all pairs."""
    value, variance, method, details = float(values.mean()), spread.variance(n), "closed form of the U-statistic", {}
    if len(values) > 1:
        variance += float(values.var()) / len(values)
        method += ", and the variance of subsets over their number"
        details = {"std": float(values.std(correction=0))}
    if n < LEAST:
        return score("kernel_distance", value, None, n=n, method=TOO_FEW, details=details)
    interval = spread.interval(value, variance, n)
    return score("kernel_distance", value, math.sqrt(variance), n=n, method=method, interval=interval, details=details)
