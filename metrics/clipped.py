"""Clipped density and clipped coverage (Salvy, Talbot and Thirion 2025): fidelity and variety on a calibrated scale."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Num

from evalsvc.metrics import registry, split_half
from evalsvc.metrics.arrays import same_width
from evalsvc.metrics.balls import REFERENCE_RADII, Balls, Radii, checked_sample, count, inside, listed, rank_among
from evalsvc.metrics.distances import Block, flatnonzero
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.neighbors import Shortlist
from evalsvc.metrics.pairs import Plan, Side, Visitor, over_pairs
from evalsvc.metrics.points import Points
from evalsvc.metrics.registry import Quantity, metric
from evalsvc.metrics.score import Direction, Score
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from evalsvc.metrics.arrays import Array

CLIPPED_DENSITY = Quantity(
    "clipped_density",
    Direction.HIGHER,
    "share",
    0.0,
    1.0,
    title="Clipped density",
    title_zh="截断密度",
    beside=("clipped_coverage",),
)
CLIPPED_COVERAGE = Quantity(
    "clipped_coverage", Direction.HIGHER, "share", 0.0, 1.0, title="Clipped coverage", title_zh="截断覆盖率"
)


@metric(CLIPPED_DENSITY, CLIPPED_COVERAGE, version=1, precomputed=(REFERENCE_RADII,))
@over_pairs
def clipped_density_coverage(
    generated: Num[Array, "n d"],
    reference: Num[Array, "m d"],
    k: int = 5,
    reference_radii: Radii | None = None,
    groups: Groups | None = None,
) -> Plan[dict[str, Score]]:
    """Clipped density and coverage (Salvy, Talbot and Thirion 2025), with the rules of the authors' code.

    Both are in [0, 1], higher is better, and read as the share of samples that are as good as new real ones: 1 is
    expected of equal laws, and a set of which the share s is real and the rest far away scores s.

    ``clipped_density``: no ball of the reference (radius to its k-th nearest neighbor) is larger than the median one, a
    sample counts for at most one (held by k balls or more, sphere included), and the mean over samples is divided by
    that of the reference's own samples, 0.6 to 1: an outlier of the reference does not make bad samples good, and
    good ones make up for bad ones by that factor at most. ``clipped_coverage``: balls count the samples strictly
    inside, up to k, and the mean over the reference is translated into the number of real samples that would give it,
    which depends on n, m and k alone.

    Shapes (n, d) and (m, d) with n, m > k, otherwise :class:`MetricError`. The error of the density is that of a mean
    over samples, that of the coverage comes from split halves, both for redrawn generated sets against this reference;
    split halves of the reference tell what redrawing it adds to the coverage's error.
    The interval is for the expectation of the cut value, a little below 1 for equal laws. ``details`` holds the density
    before the cut (``uncut``), its divisor (``real``), and the coverage before the translation (``covered``).

    >>> line = np.arange(40.0)[:, None]
    >>> half = np.concatenate([line[:20], line[:20] + 1000])
    >>> round(clipped_density_coverage(half, line)["clipped_density"].value, 2)
    0.51
    """
    y, x = checked_sample(generated, "generated", k), checked_sample(reference, "reference", k)
    same_width(y, x)
    return Plan(y, x, functools.partial(_Clipped, k=k, radii=reference_radii, units=Units.of(len(y), groups)))


class _Clipped(Visitor[dict[str, Score]]):
    """How many clipped balls hold each generated sample, and how many samples each ball holds."""

    def __init__(self, x: Points, y: Points, *, k: int, radii: Radii | None, units: Units) -> None:
        self.x, self.y, self.k, self.units = x, y, k, units
        self.seeks = frozenset({"across"} if radii else {"across", "reference"})
        self.nearest = Shortlist.of_others(x, listed(k))
        device = x.device
        self.holders, self.held = (torch.zeros(len(z), dtype=torch.int64, device=device) for z in (y, x))
        self.candidates = Shortlist.empty(len(x), listed(k), x)
        if radii:
            self._clip(Balls.known(radii, x, k))

    def within(self, side: Side, block: Block) -> None:
        self.nearest.offer_both(block)

    def settle(self, side: Side) -> None:
        self._clip(Balls.found(self.nearest, self.x, self.k))

    def _clip(self, balls: Balls) -> None:
        self.balls = balls
        squared, m = balls.squared.sort().values, len(self.x)
        low, high = float(squared[(m - 1) // 2]), float(squared[m // 2])
        # A root squared again may exclude the neighbor that it is the distance of.
        middle = low if low == high else ((math.sqrt(low) + math.sqrt(high)) / 2) ** 2
        self.clipped = balls.squared.clamp(max=middle)

    def across(self, block: Block) -> None:
        x, y, balls = self.x, self.y, self.balls
        for i, j, lower in block.below(block.lower <= balls.reach[block.rows, None]):
            rank = rank_among(balls.distances, i, lower)
            enters = flatnonzero((rank < balls.distances.shape[1]) & (rank < self.candidates.limit[i]))
            self.candidates.enter(block.rows, i[enters], j[enters], rank[enters].to(x.low.dtype))
            least = lower.double().clamp(min=0)
            most = least + x.slack[i] + y.slack[j]
            count(self.held, i, inside(x, i, y, j, least, most, balls.squared[i], closed=False))
            count(self.holders, j, inside(x, i, y, j, least, most, self.clipped[i], closed=True))

    def result(self) -> dict[str, Score]:
        return {"clipped_density": self._density(), "clipped_coverage": self._coverage()}

    def _density(self) -> Score:
        real = self._real()
        shares = self.holders.clamp(max=self.k).double().cpu().numpy() / (self.k * real)
        variance, influence = self.units.estimate(shares)
        uncut, stderr = float(shares.mean()), max(math.sqrt(variance), 1 / (self.units.count * real))
        half = self.units.quantile * stderr
        unknown = "none: the clipped balls of another reference are not known"
        error = _Error.cut(uncut, stderr, (uncut - half, uncut + half), influence, unknown)
        return self._score("clipped_density", min(1.0, uncut), "mean over samples", error, uncut=uncut, real=real)

    def _real(self) -> float:
        """The mean over the reference's own samples, each held by balls of the others."""
        neighbors, distances = self.balls.neighbors, self.balls.distances.double()
        i = torch.arange(len(neighbors), device=neighbors.device)[:, None].expand_as(neighbors).flatten()
        j, lower = neighbors.flatten(), distances.flatten()
        # Lists of the reference alone were found from its own center, from which no point is twice as far.
        upper = lower + 8 * self.x.slack.max()
        holds = inside(self.x, i, self.x, j, lower - 8 * self.x.slack.max(), upper, self.clipped[i], closed=True)
        counts = torch.bincount(j[holds], minlength=len(neighbors))
        return float(counts.clamp(max=self.k).double().mean()) / self.k

    def _coverage(self) -> Score:
        k, m, n, units = self.k, len(self.x), len(self.y), self.units
        covered = float(self.held.clamp(max=k).double().mean()) / k
        expected, shares = expected_coverage(2 * n, m, k), np.arange(2 * n + 1) / (n + 1)
        value = float(np.searchsorted(expected[: n + 1], covered)) / (n + 1)
        if min(m, n) < 2 * (k + 1):
            reason = f"none: halves of n = {n} and m = {m} samples are too small for k = {k}"
            return self._score("clipped_coverage", value, reason, None, covered=covered)
        halves = split_half.Halves.of(m, units)
        shares_of_halves = split_half.shares(
            self.candidates.indices.cpu().numpy(),
            self.candidates.keys.nan_to_num(posinf=0).long().cpu().numpy(),
            split_half.open_balls(self.balls.neighbors.cpu().numpy(), halves.reference, k),
            halves.reference,
            halves.generated,
            centered_on_points=True,
            times=k,
        )
        differences = split_half.of_generated(shares_of_halves)
        half = units.quantile * math.sqrt(float(np.mean(np.square(differences)))) / 2
        low, uncut, high = map(float, np.interp((covered - half, covered, covered + half), expected, shares))
        slope = (high - low) / (2 * half) if half else 0.0
        stderr = max(slope * half / units.quantile, 1 / units.count)
        splits = (slope * differences).astype(np.float32)
        influence = Influence(units.count, splits=splits, student=units.clustered)
        reference = split_half.of_reference(shares_of_halves, m).times(slope)
        error = _Error.cut(uncut, stderr, (low, high), influence, reference)
        return self._score("clipped_coverage", value, "split halves", error, covered=covered)

    def _score(self, name: str, value: float, method: str, error: _Error | None, **details: float) -> Score:
        details = {"k": float(self.k), "n_reference": float(len(self.x)), **details}
        build = functools.partial(
            registry.score, name, value, n=len(self.y), method=method, details=details, units=self.units
        )
        if error is None:
            return build(stderr=None, reference=method)
        return build(stderr=error.stderr, interval=error.interval, influence=error.influence, reference=error.reference)


@dataclass(frozen=True)
class _Error:
    """The error of a share that is cut at 1, of which the expectation is below 1 for equal laws."""

    stderr: float
    interval: tuple[float, float]
    influence: Influence
    reference: Influence | str

    @classmethod
    def cut(
        cls,
        mean: float,
        stderr: float,
        interval: tuple[float, float],
        influence: Influence,
        reference: Influence | str,
    ) -> _Error:
        """From the normal error of the share before the cut."""
        spread, least = _cut_moments(mean, stderr)[1], 1 / influence.n
        low, high = (_cut_moments(end, stderr)[0] for end in interval)
        part = spread / stderr
        if isinstance(reference, Influence):
            reference = reference.times(part)
        return cls(max(spread, least), (low, high), replace(influence.times(part), least=least), reference)


def _cut_moments(mean: float, stderr: float) -> tuple[float, float]:
    """Expectation and standard deviation of a normal variable cut at 1.

    >>> [round(moment, 3) for moment in _cut_moments(1.0, 0.1)]
    [0.96, 0.058]
    """
    gap = (mean - 1) / stderr
    above = math.erfc(-gap / math.sqrt(2)) / 2
    density = math.exp(-(gap**2) / 2) / math.sqrt(2 * math.pi)
    below = stderr * (gap * (1 - above) - density)
    square = stderr**2 * ((gap**2 + 1) * (1 - above) - gap * density)
    return 1 + below, math.sqrt(max(0.0, square - below**2))


def expected_coverage(n: int, m: int, k: int) -> Float64[np.ndarray, " counts"]:
    """Of 0 to ``n`` samples of the reference's law: how full its m balls are, each up to k; 0 below k samples.

    The mass of a ball is that up to the k-th of m - 1 others, by Beta(k, m - k) under any law: the number of
    samples inside is beta-binomial.

    >>> expected_coverage(4, 3, 1).round(3).tolist()
    [0.0, 0.333, 0.5, 0.6, 0.667]
    """
    from scipy.special import betaln, gammaln  # here, as the registry reads this file

    count, inside = np.arange(k, n + 1)[:, None], np.arange(k)
    binomial = gammaln(count + 1) - gammaln(inside + 1) - gammaln(count - inside + 1)
    chance = np.exp(binomial + betaln(k + inside, m - k + count - inside) - betaln(k, m - k))
    return np.concatenate([np.zeros(k), 1 - chance @ (1 - inside / k)])
