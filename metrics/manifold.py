"""Fidelity and variety by k-nearest-neighbour balls: precision, recall, density, coverage, realism.

Every set is a union of balls around its samples, each reaching to the k-th nearest other sample. One sweep over the
pairs, in blocks, decides all comparisons exactly as float64 would from the features as they are stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64, Num
from torch import Tensor

from metrics import registry, split_half
from metrics.arrays import Array, as_matrix, same_width
from metrics.distances import Points, common_frame, exact, side_by_side, sweep
from metrics.neighbours import Shortlist, squared_radii, symmetric_shortlist
from metrics.registry import Quantity, metric
from metrics.score import Direction, MetricError, Score
from metrics.shares import INDEPENDENT, binomial_variance, share_score

PRECISION = Quantity("precision", Direction.HIGHER, "share", 0.0, 1.0)
RECALL = Quantity("recall", Direction.HIGHER, "share", 0.0, 1.0)
DENSITY = Quantity("density", Direction.HIGHER, "balls / k", 0.0)
COVERAGE = Quantity("coverage", Direction.HIGHER, "share", 0.0, 1.0)


@dataclass(frozen=True)
class Radii:
    """The balls of a set, to be computed once and used against many others.

    ``squared`` holds the exact squared distance of each point to its k-th nearest other point; ``neighbours`` and
    ``distances`` list somewhat more neighbours than k (squared distances to float32), which standard errors need.
    """

    k: int
    squared: Float64[np.ndarray, " n"]
    neighbours: Int64[np.ndarray, "n listed"]
    distances: Float64[np.ndarray, "n listed"]


def neighbour_radii(x: Num[Array, "n d"], k: int = 5) -> Radii:
    """The k-nearest-neighbour balls of ``x`` (n, d), for the ``reference_radii`` of the metrics below.

    Raises :class:`MetricError` unless n > k.

    >>> neighbour_radii(np.array([[0.0], [1.0], [3.0]]), k=1).squared.tolist()
    [1.0, 1.0, 4.0]
    """
    (points,) = common_frame(checked_sample(x, "reference", k))
    balls, unit = balls_of(points, k), points.scale**2
    return Radii(
        k,
        (balls.squared / unit).cpu().numpy(),
        balls.neighbours.cpu().numpy(),
        (balls.distances.double() / unit).cpu().numpy(),
    )


@metric(PRECISION, RECALL, version=1)
def precision_recall(
    generated: Num[Array, "n d"], reference: Num[Array, "m d"], k: int = 3, reference_radii: Radii | None = None
) -> dict[str, Score]:
    """Improved precision and recall (Kynkaanniemi et al. 2019): points on a sphere are inside (``<=``).

    ``precision`` is the share of generated samples inside the reference's balls, ``recall`` the share of reference
    samples inside the generated set's balls; both in [0, 1], higher is better. Shapes (n, d) and (m, d) with
    n, m > k, otherwise :class:`MetricError`. Standard errors are about generated sets drawn anew against this same
    reference.

    >>> line = np.arange(10.0)[:, None]
    >>> precision_recall(line + 0.5, line)["precision"].value
    1.0
    """
    return _scores(generated, reference, k, reference_radii, closed=True, wanted=("precision", "recall"))


@metric(DENSITY, COVERAGE, version=1)
def density_coverage(
    generated: Num[Array, "n d"], reference: Num[Array, "m d"], k: int = 5, reference_radii: Radii | None = None
) -> dict[str, Score]:
    """Density and coverage (Naeem et al. 2020), as in :func:`prdc`: ranges, errors and standard errors are there.

    >>> line = np.arange(10.0)[:, None]
    >>> {name: score.value for name, score in density_coverage(line + 0.5, line, k=1).items()}
    {'density': 1.9, 'coverage': 1.0}
    """
    return _scores(generated, reference, k, reference_radii, closed=False, wanted=("density", "coverage"))


@metric(PRECISION, RECALL, DENSITY, COVERAGE, version=1)
def prdc(
    generated: Num[Array, "n d"], reference: Num[Array, "m d"], k: int = 5, reference_radii: Radii | None = None
) -> dict[str, Score]:
    """Precision, recall, density and coverage by the published rule of Naeem et al. 2020: strictly inside (``<``).

    ``density`` is the mean number of reference balls that hold a generated sample, over k: 1 in expectation where both
    laws are equal, unbounded above. ``coverage`` is the share of reference balls that hold a generated sample:
    1 - prod_{i<k} (n - i) / (2n - i) in expectation for equal laws and sizes. Higher is better. By the strict rule
    constant features give 0 throughout. Shapes (n, d) and (m, d) with n, m > k, otherwise :class:`MetricError`.

    Standard errors are about generated sets drawn anew against this same reference: exact means over samples for
    precision and density, split halves (:mod:`metrics.split_half`) for recall and coverage. Intervals of shares are
    Wilson's at the effective number of samples.

    >>> line = np.arange(10.0)[:, None]
    >>> {name: score.value for name, score in prdc(line + 5, line, k=2).items()}
    {'precision': 0.6, 'recall': 0.6, 'density': 0.35, 'coverage': 0.5}
    """
    wanted = ("precision", "recall", "density", "coverage")
    return _scores(generated, reference, k, reference_radii, closed=False, wanted=wanted)


@dataclass(frozen=True)
class Balls:
    """:class:`Radii` in scaled units, on the device of their points."""

    squared: Float64[Tensor, " n"]
    neighbours: Int64[Tensor, "n listed"]
    distances: Float[Tensor, "n listed"]


def balls_of(points: Points, k: int, radii: Radii | None = None) -> Balls:
    """The k-nearest-neighbour balls of the points, found or, where ``radii`` are given, taken from there."""
    if k < 1:
        raise MetricError(f"k = {k} neighbours make no ball; give k >= 1")
    if radii is None:
        nearest = symmetric_shortlist(points, split_half.listed_neighbours(k))
        return Balls(squared_radii(nearest, points, k), nearest.indices, nearest.keys)
    if radii.k != k or len(radii.squared) != len(points):
        raise MetricError(
            f"reference_radii is of {len(radii.squared)} points with k = {radii.k}; the reference has "
            f"{len(points)} and k = {k}: compute them again with neighbour_radii(reference, k={k})"
        )
    squared, neighbours, distances = (
        torch.as_tensor(array, device=points.raw.device) for array in (radii.squared, radii.neighbours, radii.distances)
    )
    unit = points.scale**2
    return Balls(squared * unit, neighbours, (distances * unit).to(points.low.dtype))


def _balls_of_both(x: Points, y: Points, k: int, radii: Radii | None) -> tuple[Balls, Balls]:
    alike = radii is None and 4 * max(len(x), len(y)) <= 5 * min(len(x), len(y))
    if alike and x.raw.device.type == "cpu":
        return side_by_side(lambda: balls_of(x, k), lambda: balls_of(y, k))
    return balls_of(x, k, radii), balls_of(y, k)


@dataclass(frozen=True)
class _Hits:
    """What one sweep over all (reference, generated) pairs finds.

    ``holders`` counts, for each generated sample, the reference balls that hold it. The shortlists name, for each
    reference sample, generated samples that its ball may hold and whose balls may hold it, by rank among neighbours.
    """

    holders: Int64[Tensor, " n"]
    covered: Bool[Tensor, " m"]
    recalled: Bool[Tensor, " m"]
    in_own: Shortlist
    in_others: Shortlist


def _sweep_hits(x: Points, y: Points, of_x: Balls, of_y: Balls, *, closed: bool) -> _Hits:
    device = x.raw.device
    holders = torch.zeros(len(y), dtype=torch.int64, device=device)
    covered, recalled = (torch.zeros(len(x), dtype=torch.bool, device=device) for _ in range(2))
    in_own, in_others = (Shortlist.empty(len(x), split_half.CANDIDATES, x) for _ in range(2))
    reach_x, reach_y = (
        torch.maximum(balls.distances[:, -1].double(), balls.squared).mul(1 + 1e-6).to(x.low.dtype)
        for balls in (of_x, of_y)
    )
    for block in sweep(x, y):
        near = (block.lower <= reach_x[block.rows, None]) | (block.lower <= reach_y[None, block.columns])
        i, j, lower = block.below(near)
        lower = lower.double().clamp(min=0)
        upper = lower + x.slack[i] + y.slack[j]
        own = _inside(x, i, y, j, lower, upper, of_x.squared[i], closed)
        holders += torch.bincount(j[own], minlength=len(y))
        covered[i[own]] = True
        recalled[i[_inside(x, i, y, j, lower, upper, of_y.squared[j], closed)]] = True
        for shortlist, balls, centre in ((in_own, of_x, i), (in_others, of_y, j)):
            rank = _rank(balls.distances, centre, lower.to(x.low.dtype))
            enters = (rank < balls.distances.shape[1]) & (rank < shortlist.limit[i])
            shortlist.enter(i[enters], j[enters], rank[enters].to(x.low.dtype))
    return _Hits(holders, covered, recalled, in_own, in_others)


def _inside(
    x: Points,
    i: Int64[Tensor, " p"],
    y: Points,
    j: Int64[Tensor, " p"],
    lower: Float64[Tensor, " p"],
    upper: Float64[Tensor, " p"],
    squared_radius: Float64[Tensor, " p"],
    closed: bool,
) -> Bool[Tensor, " p"]:
    """Which pairs are nearer than the radius; those that bounds leave open are measured."""
    compare = torch.le if closed else torch.lt
    inside = compare(upper, squared_radius)
    open_pairs = (compare(lower, squared_radius) & ~inside).nonzero().squeeze(1)
    measured = exact(x, i[open_pairs], y, j[open_pairs])
    inside[open_pairs] = compare(measured, squared_radius[open_pairs])
    return inside


def _rank(
    ascending: Float[Tensor, "n listed"], row: Int64[Tensor, " p"], value: Float[Tensor, " p"]
) -> Int64[Tensor, " p"]:
    """How many entries of its row each value exceeds: a binary search that never gathers whole rows."""
    listed = ascending.shape[1]
    rank = torch.zeros_like(row)
    step = 1 << (listed.bit_length() - 1)
    while step:
        probe = rank + step
        fits = probe <= listed
        rank += step * (fits & (ascending[row, (probe - 1).clamp(max=listed - 1)] < value))
        step >>= 1
    return rank


def checked_sample(x: Array, name: str, k: int) -> Tensor:
    """``x`` as a matrix of more than ``k`` rows."""
    matrix = as_matrix(x, name)
    if len(matrix) <= k:
        raise MetricError(
            f"{name} has n = {len(matrix)} samples, of which none has k = {k} others; give at least {k + 1}"
        )
    return matrix


def _scores(
    generated: Num[Array, "n d"],
    reference: Num[Array, "m d"],
    k: int,
    radii: Radii | None,
    *,
    closed: bool,
    wanted: tuple[str, ...],
) -> dict[str, Score]:
    inputs = checked_sample(reference, "reference", k), checked_sample(generated, "generated", k)
    same_width(inputs[1], inputs[0])
    x, y = common_frame(*inputs)
    of_x, of_y = _balls_of_both(x, y, k, radii)
    hits = _sweep_hits(x, y, of_x, of_y, closed=closed)
    return {name: _score(name, hits, of_x, of_y, k) for name in wanted}


def _score(name: str, hits: _Hits, of_x: Balls, of_y: Balls, k: int) -> Score:
    m, n = len(hits.covered), len(hits.holders)
    details = {"k": float(k), "n_reference": float(m)}
    holders = hits.holders.double()
    if name == "density":
        stderr = float(holders.std()) / k / math.sqrt(n)
        return registry.score(
            name, 1.0 / k * float(holders.mean()), stderr, n=n, method="mean over samples", details=details
        )
    if name == "precision":
        share = float((holders > 0).double().mean())
        return share_score(name, share, binomial_variance(share, n), n=n, method=INDEPENDENT, details=details)
    flags, shortlist, centres = {
        "recall": (hits.recalled, hits.in_others, of_y),
        "coverage": (hits.covered, hits.in_own, of_x),
    }[name]
    share = float(flags.double().mean())
    if min(m, n) < 2 * (k + 1):
        reason = f"none: halves of n = {n} and m = {m} samples are too small for k = {k}"
        return registry.score(name, share, None, n=n, method=reason, details=details)
    variance = split_half.share_variance(
        shortlist.indices.cpu().numpy(),
        shortlist.keys.nan_to_num(posinf=0).long().cpu().numpy(),
        centres.neighbours.cpu().numpy(),
        n,
        k,
        centred_on_reference=name == "coverage",
    )
    return share_score(name, share, variance, n=n, method="split halves", details=details)
