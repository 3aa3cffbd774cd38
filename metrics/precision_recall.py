"""Fidelity and variety by k-nearest-neighbor balls: precision, recall, density, coverage, realism.

Every set is a union of balls around its samples, each reaching to the k-th nearest other sample. One pass over the
pairs, in blocks, decides all comparisons exactly as float64 would from the features as they are stored.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Num

from evalsvc.metrics import registry, split_half
from evalsvc.metrics.arrays import same_width
from evalsvc.metrics.balls import REFERENCE_RADII, Balls, Radii, checked_sample, count, inside, listed, rank_among
from evalsvc.metrics.distances import Block, flatnonzero
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.neighbors import Shortlist
from evalsvc.metrics.pairs import Plan, Side, Visitor, over_pairs
from evalsvc.metrics.points import Points
from evalsvc.metrics.proportions import mean_of_flags, proportion_score
from evalsvc.metrics.registry import Quantity, metric
from evalsvc.metrics.score import Direction, Score
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

PRECISION = Quantity(
    "precision",
    Direction.HIGHER,
    "share",
    0.0,
    1.0,
    unbiased_in_n=True,
    title="Precision",
    title_zh="精确率",
    beside=("recall",),
)
RECALL = Quantity("recall", Direction.HIGHER, "share", 0.0, 1.0, title="Recall", title_zh="召回率")
DENSITY = Quantity(
    "density",
    Direction.HIGHER,
    "balls / k",
    0.0,
    unbiased_in_n=True,
    title="Density",
    title_zh="密度",
    beside=("coverage",),
)
COVERAGE = Quantity("coverage", Direction.HIGHER, "share", 0.0, 1.0, title="Coverage", title_zh="覆盖率")


@metric(PRECISION, RECALL, version=1, precomputed=(REFERENCE_RADII,), error_version=2)
@over_pairs
def precision_recall(
    generated: Num[Array, "n d"],
    reference: Num[Array, "m d"],
    k: int = 3,
    reference_radii: Radii | None = None,
    groups: Groups | None = None,
) -> Plan[dict[str, Score]]:
    """Improved precision and recall (Kynkaanniemi et al. 2019): points on a sphere are inside (``<=``).

    ``precision`` is the share of generated samples inside the reference's balls, ``recall`` the share of reference
    samples inside the generated set's balls; both in [0, 1], higher is better. Shapes (n, d) and (m, d) with
    n, m > k, otherwise :class:`MetricError`. Standard errors are for redrawn generated sets against this same
    reference; ``stderr_reference`` is what redrawing the reference adds, from split halves.

    >>> line = np.arange(10.0)[:, None]
    >>> precision_recall(line + 0.5, line)["precision"].value
    1.0
    """
    return _plan(generated, reference, k, reference_radii, groups, closed=True, wanted=("precision", "recall"))


@metric(DENSITY, COVERAGE, version=1, precomputed=(REFERENCE_RADII,), error_version=2)
@over_pairs
def density_coverage(
    generated: Num[Array, "n d"],
    reference: Num[Array, "m d"],
    k: int = 5,
    reference_radii: Radii | None = None,
    groups: Groups | None = None,
) -> Plan[dict[str, Score]]:
    """Density and coverage (Naeem et al. 2020), as in :func:`prdc`: ranges, errors and standard errors are there.

    >>> line = np.arange(10.0)[:, None]
    >>> {name: score.value for name, score in density_coverage(line + 0.5, line, k=1).items()}
    {'density': 1.9, 'coverage': 1.0}
    """
    return _plan(generated, reference, k, reference_radii, groups, closed=False, wanted=("density", "coverage"))


@metric(PRECISION, RECALL, DENSITY, COVERAGE, version=1, precomputed=(REFERENCE_RADII,), error_version=2)
@over_pairs
def prdc(
    generated: Num[Array, "n d"],
    reference: Num[Array, "m d"],
    k: int = 5,
    reference_radii: Radii | None = None,
    groups: Groups | None = None,
) -> Plan[dict[str, Score]]:
    """Precision, recall, density and coverage by the published rule of Naeem et al. 2020: strictly inside (``<``).

    ``density`` is the mean number of reference balls that hold a generated sample, over k: 1 in expectation where both
    laws are equal, unbounded above. ``coverage`` is the share of reference balls that hold a generated sample:
    1 - prod_{i<k} (n - i) / (2n - i) in expectation for equal laws and sizes. Higher is better. By the strict rule
    constant features give 0 throughout. Shapes (n, d) and (m, d) with n, m > k, otherwise :class:`MetricError`.

    Standard errors are for redrawn generated sets against this same reference: exact means over samples for
    precision and density, split halves (:mod:`evalsvc.metrics.split_half`) for recall and coverage. Intervals of shares
    are Wilson's at the effective number of samples. ``stderr_reference`` is what redrawing the reference adds, from
    split halves of it.

    >>> line = np.arange(10.0)[:, None]
    >>> {name: score.value for name, score in prdc(line + 5, line, k=2).items()}
    {'precision': 0.6, 'recall': 0.6, 'density': 0.35, 'coverage': 0.5}
    """
    wanted = ("precision", "recall", "density", "coverage")
    return _plan(generated, reference, k, reference_radii, groups, closed=False, wanted=wanted)


class _Manifolds(Visitor[dict[str, Score]]):
    """The balls of both sets, and who lies in whose.

    ``holders`` counts, for each generated sample, the reference balls that hold it. The shortlists name, for each
    reference sample, generated samples that its ball may hold and whose balls may hold it, by rank among neighbors.
    """

    def __init__(
        self,
        x: Points,
        y: Points,
        *,
        k: int,
        radii: Radii | None,
        units: Units,
        closed: bool,
        wanted: tuple[str, ...],
    ) -> None:
        self.k, self.units, self.closed, self.wanted = k, units, closed, wanted
        self.points: dict[Side, Points] = {"reference": x, "generated": y}
        self.balls: dict[Side, Balls] = {"reference": Balls.known(radii, x, k)} if radii else {}
        self.nearest = {
            side: Shortlist.of_others(points, listed(k))
            for side, points in self.points.items()
            if side not in self.balls
        }
        self.seeks = frozenset({"across", *self.nearest})
        device = x.device
        self.holders = torch.zeros(len(y), dtype=torch.int64, device=device)
        self.covered, self.recalled = (torch.zeros(len(x), dtype=torch.int64, device=device) for _ in range(2))
        self.shortlists = {
            name: Shortlist.empty(len(of), split_half.CANDIDATES, of)
            for name, of in (("precision", y), ("recall", x), ("coverage", x))
            if name in wanted
        }
        # By rank among the neighbors of the ball's center, and by fixed half of the generated set.
        width = radii.neighbors.shape[1] if radii else min(listed(k), len(x) - 1)
        self.held = torch.zeros(len(x), width, 2, dtype=torch.int64, device=device)
        self.second_half = torch.zeros(len(y), dtype=torch.int64, device=device)
        self.second_half[torch.from_numpy(units.halves[1])] = 1

    def within(self, side: Side, block: Block) -> None:
        self.nearest[side].offer_both(block)

    def settle(self, side: Side) -> None:
        self.balls[side] = Balls.found(self.nearest[side], self.points[side], self.k)

    def across(self, block: Block) -> None:
        x, y = self.points["reference"], self.points["generated"]
        of_x, of_y = self.balls["reference"], self.balls["generated"]
        near = (block.lower <= of_x.reach[block.rows, None]) | (block.lower <= of_y.reach[None, block.columns])
        for i, j, lower in block.below(near):
            least = lower.double().clamp(min=0)
            most = least + x.slack[i] + y.slack[j]
            own = inside(x, i, y, j, least, most, of_x.squared[i], self.closed)
            count(self.holders, j, own)
            count(self.covered, i, own)
            count(self.recalled, i, inside(x, i, y, j, least, most, of_y.squared[j], self.closed))
            lower, width = least.to(x.low.dtype), self.held.shape[1]
            rank = rank_among(of_x.distances, i, lower)
            self._offer("coverage", block.rows, i, j, rank, width)
            self._offer("precision", block.columns, j, i, rank, width)
            if "density" in self.wanted:
                cell = (i * width + rank.clamp(max=width - 1)) * 2 + self.second_half[j]
                count(self.held.view(-1), cell, rank < width)
            if "recall" in self.wanted:
                rank = rank_among(of_y.distances, j, lower)
                self._offer("recall", block.rows, i, j, rank, of_y.distances.shape[1])

    def _offer(self, name: str, rows: slice, row: Tensor, other: Tensor, rank: Tensor, width: int) -> None:
        """Enter the pairs of a rank below ``width``."""
        if name in self.shortlists:
            shortlist = self.shortlists[name]
            enters = flatnonzero((rank < width) & (rank < shortlist.limit[row]))
            shortlist.enter(rows, row[enters], other[enters], rank[enters].to(shortlist.keys.dtype))

    def result(self) -> dict[str, Score]:
        return {name: self._score(name) for name in self.wanted}

    @functools.cached_property
    def _halves(self) -> split_half.Halves:
        return split_half.Halves.of(len(self.covered), self.units)

    @functools.cached_property
    def _open_in_reference(self) -> split_half.Balls:
        neighbors = self.balls["reference"].neighbors.cpu().numpy()
        return split_half.open_balls(neighbors, self._halves.reference, self.k)

    def _score(self, name: str) -> Score:
        k, m, n = self.k, len(self.covered), len(self.holders)
        details = {"k": float(k), "n_reference": float(m)}
        units, holders = self.units, self.holders.double()
        reason = f"none: halves of n = {n} and m = {m} samples are too small for k = {k}"
        shares = self._shares(name) if min(m, n) >= 2 * (k + 1) else None
        reference = reason if shares is None else split_half.of_reference(shares, m)
        if name == "density":
            variance, influence = units.estimate((holders / k).cpu().numpy())
            return registry.score(
                name,
                1.0 / k * float(holders.mean()),
                math.sqrt(variance),
                n=n,
                method="mean over samples",
                details=details,
                influence=influence,
                units=units,
                reference=reference,
            )
        if name == "precision":
            return mean_of_flags(name, (holders > 0).cpu().numpy(), units, details, reference)
        share = float(((self.recalled if name == "recall" else self.covered) > 0).double().mean())
        if shares is None:
            return registry.score(
                name, share, None, n=n, method=reason, details=details, units=units, reference=reference
            )
        differences = split_half.of_generated(shares)
        influence = Influence(units.count, splits=differences.astype(np.float32), student=units.clustered)
        variance = float(np.mean(np.square(differences)) / 4)
        return proportion_score(
            name,
            share,
            variance,
            units,
            influence,
            method="split halves",
            details=details,
            reference=reference,
        )

    def _shares(self, name: str) -> split_half.Shares:
        """The quantity as half of each set has it."""
        halves = self._halves
        if name == "density":
            sizes = self.k * np.array([len(half) for half in self.units.halves])
            return split_half.balls_a_sample(self.held.cpu().numpy() / sizes, self._open_in_reference, halves.reference)
        open_balls = self._open_in_reference
        if name == "recall":
            neighbors = self.balls["generated"].neighbors.cpu().numpy()
            open_balls = split_half.open_balls(neighbors, halves.generated, self.k)
        shortlist, sides = self.shortlists[name], (halves.reference, halves.generated)
        points, others = sides[::-1] if name == "precision" else sides
        found = split_half.shares(
            shortlist.indices.cpu().numpy(),
            shortlist.keys.nan_to_num(posinf=0).long().cpu().numpy(),
            open_balls,
            points,
            others,
            centered_on_points=name == "coverage",
        )
        return found.swapaxes(0, 1) if name == "precision" else found


def _plan(
    generated: Num[Array, "n d"],
    reference: Num[Array, "m d"],
    k: int,
    radii: Radii | None,
    groups: Groups | None,
    *,
    closed: bool,
    wanted: tuple[str, ...],
) -> Plan[dict[str, Score]]:
    y, x = checked_sample(generated, "generated", k), checked_sample(reference, "reference", k)
    same_width(y, x)
    return Plan(
        y,
        x,
        functools.partial(_Manifolds, k=k, radii=radii, units=Units.of(len(y), groups), closed=closed, wanted=wanted),
    )
