"""Kernel distance (squared maximum mean discrepancy): KID of Binkowski et al. 2018, CMMD of Jayasumana et al. 2024."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

from metrics.arrays import Array, as_matrix, same_width
from metrics.influence import LEAST, TOO_FEW
from metrics.registry import Quantity, metric, score
from metrics.score import Z95, Direction, MetricError, Score

_WITNESSES = 2000

Kernel = Callable[[Tensor, Tensor], Tensor]


@metric(Quantity("kernel_distance", Direction.LOWER, unit="squared kernel units"), version=1)
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
) -> Score:
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
    if kernel == "rbf":
        x, y, function = x.double(), y.double(), _rbf(sigma)
    elif kernel == "polynomial":
        function = _polynomial(degree, 1 / x.shape[1] if gamma is None else gamma, coef)
    else:
        raise MetricError(f"there is no kernel {kernel!r}; there are 'polynomial' and 'rbf'")

    draws = [] if subsets is None else list(_draws(n, m, subsets, subset_size, seed))
    if _one_by_one(n, m, len(draws), subset_size):
        values = _values_one_by_one(x, y, draws, function, biased)
        spread = _spread_of_some(x, y, function, seed)
    else:
        values, spread = _values_in_one_pass(x, y, draws, function, biased)

    value, variance, method, details = float(values.mean()), spread.variance(n), "closed form of the U-statistic", {}
    if draws:
        variance += float(values.var()) / len(draws)
        method += ", and the variance of subsets over their number"
        details = {"std": float(values.std(correction=0))}
    if n < LEAST:
        return score("kernel_distance", value, None, n=n, method=TOO_FEW, details=details)
    interval = spread.interval(value, variance, n)
    return score("kernel_distance", value, math.sqrt(variance), n=n, method=method, interval=interval, details=details)


def _polynomial(degree: int, gamma: float | int, coef: float | int) -> Kernel:
    def function(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T).double().mul_(gamma).add_(coef).pow_(degree)

    return function


def _rbf(sigma: float | int) -> Kernel:
    def function(a: Tensor, b: Tensor) -> Tensor:
        squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * (a @ b.T)
        return squares.clamp_(min=0).mul_(-0.5 / sigma**2).exp_()

    return function


def _draws(n: int, m: int, subsets: int, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    rng = np.random.RandomState(seed)
    for _ in range(subsets):
        generated = rng.choice(n, size, replace=False)
        yield torch.from_numpy(generated), torch.from_numpy(rng.choice(m, size, replace=False))


def _one_by_one(n: int, m: int, subsets: int, size: int) -> bool:
    """Whether separate subsets cost less than all pairs, counted in inner products."""
    all_pairs = n**2 / 2 + m**2 / 2 + n * m
    return subsets > 0 and subsets * 4 * size**2 + min(n, _WITNESSES) * (n + m) < all_pairs


@dataclass
class _Within:
    """Sums of the kernel over ordered pairs of different rows of one set, its diagonal, and sums within subsets."""

    rows: Tensor
    diagonal: Tensor
    squares: float
    subsets: Tensor

    @classmethod
    def of(cls, x: Tensor, function: Kernel, members: Tensor | None = None) -> _Within:
        """``members`` (n, s) holds 1 where a row belongs to a subset."""
        members = _nobody(x) if members is None else members
        rows, diagonal = members.new_zeros(len(x)), members.new_zeros(len(x))
        squares, subsets = 0.0, members.new_zeros(members.shape[1])
        side = _side(x.device)
        for start in range(0, len(x), side):
            i = slice(start, start + side)
            for other in range(start, len(x), side):
                j = slice(other, other + side)
                tile = function(x[i], x[j])
                if i == j:
                    diagonal[i] = tile.diagonal()
                    tile.fill_diagonal_(0)
                else:
                    rows[j] += tile.sum(0)
                rows[i] += tile.sum(1)
                twice = 1 if i == j else 2
                squares += twice * float(torch.dot(tile.flatten(), tile.flatten()))
                subsets += twice * (members[i] * (tile @ members[j])).sum(0)
        return cls(rows, diagonal, squares, subsets)

    def mean(self, biased: bool) -> Tensor:
        n = len(self.rows)
        return (self.rows + self.diagonal).sum() / n**2 if biased else self.rows.sum() / (n * (n - 1))

    def subset_means(self, members: Tensor, size: int, biased: bool) -> Tensor:
        if biased:
            return (self.subsets + self.diagonal @ members) / size**2
        return self.subsets / (size * (size - 1))


def _across(
    x: Tensor, y: Tensor, function: Kernel, of_x: Tensor | None = None, of_y: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sums of the kernel over the rows of ``y`` for each row of ``x``, and over the pairs within subsets."""
    of_x, of_y = _nobody(x) if of_x is None else of_x, _nobody(y) if of_y is None else of_y
    rows, subsets = of_x.new_zeros(len(x)), of_x.new_zeros(of_x.shape[1])
    side = _side(x.device)
    for start in range(0, len(x), side):
        i = slice(start, start + side)
        for other in range(0, len(y), side):
            j = slice(other, other + side)
            tile = function(x[i], y[j])
            rows[i] += tile.sum(1)
            subsets += (of_x[i] * (tile @ of_y[j])).sum(0)
    return rows, subsets


def _side(device: torch.device) -> int:
    """Rows and columns of a tile of the kernel: a CPU's stays in the cache, another device's is worth its launch."""
    return 512 if device.type == "cpu" else 4096


def _nobody(x: Tensor) -> Tensor:
    return x.new_zeros((len(x), 0), dtype=torch.float64)


def _members(x: Tensor, draws: list[Tensor]) -> Tensor:
    members = x.new_zeros((len(x), len(draws)), dtype=torch.float64)
    for column, rows in enumerate(draws):
        members[rows, column] = 1
    return members


def _values_in_one_pass(
    x: Tensor, y: Tensor, draws: list[tuple[Tensor, Tensor]], function: Kernel, biased: bool
) -> tuple[Tensor, _Spread]:
    """The distance of every subset, or of everything where there are none, from one pass over all pairs."""
    of_x, of_y = _members(x, [rows for rows, _ in draws]), _members(y, [rows for _, rows in draws])
    xx, yy = _Within.of(x, function, of_x), _Within.of(y, function, of_y)
    witness, crossed = _across(x, y, function, of_x, of_y)
    spread = _Spread.of(xx.rows, xx, witness / len(y), len(x))
    if not draws:
        value = xx.mean(biased) + yy.mean(biased) - 2 * witness.mean() / len(y)
        return value.reshape(1), spread
    size = len(draws[0][0])
    means = xx.subset_means(of_x, size, biased) + yy.subset_means(of_y, size, biased)
    return means - 2 * crossed / size**2, spread


def _values_one_by_one(
    x: Tensor, y: Tensor, draws: list[tuple[Tensor, Tensor]], function: Kernel, biased: bool
) -> Tensor:
    values = []
    for rows, others in draws:
        a, b = x[rows.to(x.device)], y[others.to(y.device)]
        crossed = _across(a, b, function)[0].mean() / len(b)
        values.append(_Within.of(a, function).mean(biased) + _Within.of(b, function).mean(biased) - 2 * crossed)
    return torch.stack(values)


def _spread_of_some(x: Tensor, y: Tensor, function: Kernel, seed: int) -> _Spread:
    """From some rows of ``x`` against everything."""
    some = x[torch.from_numpy(np.random.RandomState(seed).permutation(len(x))[:_WITNESSES]).to(x.device)]
    among = _Within.of(some, function)
    rows = _across(some, x, function)[0] - among.diagonal
    return _Spread.of(rows, among, _across(some, y, function)[0] / len(y), len(x))


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
        trace = float(among.diagonal.mean()) - off_diagonal
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
