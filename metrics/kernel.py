"""Kernel distance (squared maximum mean discrepancy): KID of Binkowski et al. 2018, CMMD of Jayasumana et al. 2024."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Int64, Num

from evalsvc.metrics.arrays import as_matrix, same_width
from evalsvc.metrics.distances import Block
from evalsvc.metrics.influence import LEAST, TOO_FEW, Influence, Rows, some_rows
from evalsvc.metrics.kernel_influence import of_generated, of_reference, reference_witnesses
from evalsvc.metrics.kernel_sums import Across, Kernel, KernelSet, Within, polynomial, rbf
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.pairs import Plan, Side, Visitor, over_pairs
from evalsvc.metrics.points import Points
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.skewness import Noise, combined, of_quadratic, pairs_skewness
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

Draws: TypeAlias = tuple[Int64[np.ndarray, "subsets size"], Int64[np.ndarray, "subsets size"]]

_WITNESSES = 2000
_SHAPED = 512


def _unbiased_in_n(options: Mapping[str, Any]) -> bool:
    """The U-statistic has no bias, and that of the V-statistic over subsets is that of the subset's size."""
    return not options["biased"] or options["subsets"] is not None


@metric(
    Quantity(
        "kernel_distance",
        Direction.LOWER,
        unit="squared kernel units",
        unbiased_in_n=_unbiased_in_n,
        title="Kernel distance (KID)",
        title_zh="核距离（KID）",
    ),
    version=1,
    error_version=3,
)
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
    groups: Groups | None = None,
) -> Plan[Score]:
    """Squared maximum mean discrepancy; lower is better, 0 is equal, and the unbiased estimate may be negative.

    The kernel is ``(gamma x'y + coef)^degree`` with gamma = 1 / d unless given, or ``exp(-|x - y|^2 / (2 sigma^2))``.
    With ``subsets`` the value is the literature's KID: the mean over random subsets of ``subset_size`` rows of both
    sets, drawn by one ``RandomState(seed)``, generated first, as torch-fidelity draws them; ``details["std"]`` is
    their standard deviation (ddof 0). With ``subsets=None`` it is the U-statistic over all pairs: no noise of subsets.
    CMMD is ``kernel="rbf", biased=True, subsets=None`` on L2-normalized CLIP embeddings; its papers print this value
    **times 1000**.

    The standard error speaks of the expected value at this n against this fixed reference. Its square is the closed
    form for a U-statistic of degree two, ``(4 V - 2 Z / n) / n``, not less than ``2 V / n``: V the variance of a
    sample's mean kernel to its own set less that to the reference, Z the variance of a single pair. With subsets, their
    variance over their number is added. The interval is as skewed as the value: by the kernel's eigenvalues near
    equality, by the influences far from it. It is ``None`` for n < 20. ``groups`` has one label a row where rows of a
    label (draws of one prompt) are not independent: pairs are then those of groups. ``stderr_reference`` is from
    up to 2,000 of the reference's rows (:mod:`evalsvc.metrics.kernel_influence`).

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
    of = rbf(sigma) if kernel == "rbf" else polynomial(degree, 1 / x.shape[1] if gamma is None else gamma, coef)
    draws = None if subsets is None else _draws(n, m, subsets, subset_size, seed)
    units = Units.of(n, groups)
    narrow = kernel == "polynomial" and x.dtype == y.dtype == torch.float32
    dtype = torch.float32 if narrow else torch.float64
    if draws is not None and _one_by_one(n, m, len(draws[0]), subset_size):
        return Plan(x, y, lambda y, x: _OneByOne(x, y, of, draws, biased, units, seed), dtype=dtype)
    return Plan(x, y, lambda y, x: _InOnePass(x, y, of, draws, biased, units), dtype=dtype)


def _draws(n: int, m: int, subsets: int, size: int, seed: int) -> Draws:
    """The rows of each subset, of the generated set and of the reference."""
    rng = np.random.RandomState(seed)
    drawn = np.array([[rng.choice(of, size, replace=False) for of in (n, m)] for _ in range(subsets)])
    return drawn[:, 0], drawn[:, 1]


def _one_by_one(n: int, m: int, subsets: int, size: int) -> bool:
    """Whether separate subsets cost less than all pairs, counted in inner products."""
    all_pairs = n**2 / 2 + m**2 / 2 + n * m
    return subsets > 0 and subsets * 4 * size**2 + min(n, _WITNESSES) * (n + m) < all_pairs


class _InOnePass(Visitor[Score]):
    """The distance of every subset, or of all rows without subsets, from one pass over all pairs."""

    seeks = frozenset({"reference", "generated", "across"})

    def __init__(
        self,
        x: Points,
        y: Points,
        kernel: Kernel,
        draws: Draws | None,
        biased: bool,
        units: Units,
    ) -> None:
        self.draws, self.biased, self.units = draws, biased, units
        drawn = draws or (None, None)
        of_x, of_y = KernelSet.of(x, kernel, drawn[0]), KernelSet.of(y, kernel, drawn[1])
        self.sums: dict[Side, Within] = {"reference": Within(of_y), "generated": Within(of_x)}
        self.crossed = Across(of_y, of_x, units.halves)

    def within(self, side: Side, block: Block) -> None:
        self.sums[side].see(block)

    def across(self, block: Block) -> None:
        self.crossed.see(block)

    def result(self) -> Score:
        xx, yy = self.sums["generated"], self.sums["reference"]
        n, witness = len(xx.rows), self.crossed.columns / len(yy.rows)
        spread = _Spread.of(xx.rows, xx, witness, n)
        influence = of_generated(xx.of, xx.rows, witness, np.arange(n), self.units)
        reference = self._reference()
        if self.draws is None:
            value = xx.mean(self.biased) + yy.mean(self.biased) - 2 * witness.mean()
            return _score(value.reshape(1), spread, self.units, influence, reference)
        size = self.draws[0].shape[1]
        means = xx.subset_means(size, self.biased) + yy.subset_means(size, self.biased)
        return _score(means - 2 * self.crossed.subsets / size**2, spread, self.units, influence, reference)

    def _reference(self) -> Influence | str:
        yy = self.sums["reference"]
        rows = torch.from_numpy(reference_witnesses(len(yy.rows)))
        some = KernelSet.of(yy.of.points.take(rows), yy.of.kernel)
        return of_reference(some, yy.rows[rows], len(yy.rows), self.crossed.rows[rows], self.units.halves)


class _OneByOne(Visitor[Score]):
    """The distance of every subset by itself, and the spread from some rows: it needs no pass over all pairs."""

    def __init__(
        self,
        x: Points,
        y: Points,
        kernel: Kernel,
        draws: Draws,
        biased: bool,
        units: Units,
        seed: int,
    ) -> None:
        self.x, self.y, self.kernel, self.draws, self.biased = x, y, kernel, draws, biased
        self.units, self.seed = units, seed

    def result(self) -> Score:
        x, y = self.x, self.y
        of_x, of_y = (torch.from_numpy(rows).to(z.raw.device) for z, rows in zip((x, y), self.draws, strict=True))
        values = [self._value(self._set(x, i), self._set(y, j)) for i, j in zip(of_x, of_y, strict=True)]
        return _score(torch.stack(values), *self._spread())

    def _set(self, points: Points, rows: Tensor) -> KernelSet:
        return KernelSet.of(points.take(rows), self.kernel)

    def _value(self, x: KernelSet, y: KernelSet) -> Tensor:
        crossed = Across.all(y, x).columns.mean() / len(y.points)
        return Within.all(x).mean(self.biased) + Within.all(y).mean(self.biased) - 2 * crossed

    def _spread(self) -> tuple[_Spread, Units, Influence, Influence | str]:
        n, m = len(self.x), len(self.y)
        rows = self._witnesses()
        some = self._set(self.x, torch.from_numpy(rows))
        among, (of_x, of_y) = Within.all(some), (KernelSet.of(points, self.kernel) for points in (self.x, self.y))
        sums, witness = Across.all(of_x, some).columns - some.diagonal, Across.all(of_y, some).columns / m
        influence = of_generated(some, sums, witness, rows, self.units)
        others = self._set(self.y, torch.from_numpy(reference_witnesses(m)))
        halves = self.units.halves
        crossed = Across.all(others, of_x, halves).rows
        reference = of_reference(others, Across.all(of_y, others).columns - others.diagonal, m, crossed, halves)
        return _Spread.of(sums, among, witness, n), self.units, influence, reference

    def _witnesses(self) -> Rows:
        """Random rows; of groups all rows, since only they tell of the groups' spread."""
        order = np.random.RandomState(self.seed).permutation(self.units.count)
        if self.units.owner is None:
            return order[:_WITNESSES]
        sizes = np.bincount(self.units.owner)[order]
        chosen = order[np.cumsum(sizes) - sizes < max(_WITNESSES, LEAST * int(sizes.max()))]
        return np.flatnonzero(np.isin(self.units.owner, chosen))


@dataclass(frozen=True)
class _Spread:
    """Variances of the pair function ``h(x, x') = k(x, x') - w(x) - w(x')``, w the mean kernel to the reference.

    V is that of its mean over all partners, Z that of a single pair; ``skewness`` is that of the value at equality.
    """

    V: float
    Z: float
    skewness: float

    @classmethod
    def of(cls, rows: Tensor, among: Within, witness: Tensor, n: int) -> _Spread:
        """From sums of the kernel over the ``n - 1`` partners of some rows, and over the pairs among them."""
        count = len(witness)
        pairs, total = count * (count - 1), float(witness.sum())
        squares = float(witness.square().sum())
        second_moment = (
            float(among.squares) + 2 * (count - 2) * squares + 2 * total**2 - 4 * float(witness @ among.rows)
        )
        off_diagonal = float(among.rows.sum()) / pairs
        Z = max(second_moment / pairs - (off_diagonal - 2 * total / count) ** 2, 0.0)
        some = among.of.part(torch.from_numpy(some_rows(count, _SHAPED)))
        return cls(float((rows / (n - 1) - witness).var()), Z, pairs_skewness(some.matrix().cpu().numpy()))

    def variance(self, n: int) -> float:
        # A floor of the noise's own would not move with the value, which is what the skewness counts on.
        return max(4 * self.V / n - self.noise(n) ** 2, 2 * self.V / n)

    def noise(self, n: int) -> float:
        """Standard deviation of the value at equality."""
        return math.sqrt(2 * self.Z) / n


def _score(values: Tensor, spread: _Spread, units: Units, influence: Influence, reference: Influence | str) -> Score:
    """The mean over subsets, or the one value of all pairs."""
    name, value, n = "kernel_distance", float(values.mean()), units.rows
    method, details = f"closed form of the U-statistic{influence.remark}", {}
    variance = influence.variance if units.clustered else spread.variance(n)
    stderr = math.sqrt(variance)
    skewness = of_quadratic(influence, stderr, Noise(spread.noise(units.count), spread.skewness))
    if len(values) > 1:
        of_subsets = float(values.std()) / math.sqrt(len(values))
        stderr, skewness = combined([(1.0, stderr, skewness), (1.0, of_subsets, 0.0)])
        method += ", and the variance of subsets over their number"
        details = {"std": float(values.std(correction=0))}
        influence = replace(influence, draws=values.cpu().numpy().astype(np.float32))
    if units.count < LEAST:
        return score(name, value, None, n=n, method=TOO_FEW, details=details, units=units, reference=reference)
    return score(
        name,
        value,
        stderr,
        n=n,
        method=method,
        skewness=skewness,
        details=details,
        influence=influence,
        units=units,
        reference=reference,
    )
