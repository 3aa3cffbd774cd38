"""The k-nearest-neighbor balls of a set: a union of balls around its samples, each up to the k-th nearest other one."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Num

from evalsvc.metrics import split_half
from evalsvc.metrics.arrays import as_matrix
from evalsvc.metrics.distances import exact, flatnonzero
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.neighbors import Shortlist, kth_neighbors, squared_radii, symmetric_shortlist
from evalsvc.metrics.points import Points, common_frame
from evalsvc.metrics.precomputed import Arrays, Precomputed, Values
from evalsvc.metrics.score import MetricError

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array


_ROUNDING = 2.0**-44
"""Relative difference of one distance in float64 as two kinds of device have it, with room to spare."""


@dataclass(frozen=True)
class Radii:
    """The balls of a set, to be computed once and used against many others.

    ``squared`` holds the exact squared distance of each point to its k-th nearest other point; ``neighbors`` and
    ``distances`` list somewhat more neighbors than k (squared distances to float32), which standard errors need.
    """

    k: int
    squared: Float64[np.ndarray, " n"]
    neighbors: Int64[np.ndarray, "n listed"]
    distances: Float64[np.ndarray, "n listed"]


def neighbor_radii(x: Num[Array, "n d"], k: int = 5) -> Radii:
    """The k-nearest-neighbor balls of ``x`` (n, d), for the ``reference_radii`` of the metrics below.

    Raises :class:`MetricError` unless n > k.

    >>> neighbor_radii(np.array([[0.0], [1.0], [3.0]]), k=1).squared.tolist()
    [1.0, 1.0, 4.0]
    """
    (points,) = common_frame(checked_sample(x, "reference", k))
    nearest, unit = symmetric_shortlist(points, listed(k)), points.scale**2
    squared, last = kth_neighbors(nearest, points, k)
    if points.device.type != "cpu":  # they are kept, also for machines without a device: summed as there
        host = points.on_host()
        squared = exact(host, torch.arange(len(host)), host, last.cpu())
    return Radii(
        k,
        (squared / unit).cpu().numpy(),
        nearest.indices.cpu().numpy(),
        (nearest.keys.double() / unit).cpu().numpy(),
    )


def _find_radii(inputs: Values, options: Values) -> dict[str, np.ndarray]:
    radii = neighbor_radii(inputs["reference"], options["k"])
    # Stored arrays keep the name that they have had.
    return {"squared": radii.squared, "neighbours": radii.neighbors, "distances": radii.distances}


def _restore_radii(arrays: Arrays, inputs: Values, options: Values) -> Radii:
    return Radii(options["k"], arrays["squared"], arrays["neighbours"], arrays["distances"])


REFERENCE_RADII = Precomputed(
    argument="reference_radii",
    of=("reference",),
    key=lambda options: f"balls-{options['k']}",
    find=_find_radii,
    restore=_restore_radii,
)


@dataclass(frozen=True)
class Balls:
    """:class:`Radii` in scaled units, on the device of their points."""

    squared: Float64[Tensor, " n"]
    neighbors: Int64[Tensor, "n listed"]
    distances: Float[Tensor, "n listed"]

    @functools.cached_property
    def reach(self) -> Float[Tensor, " n"]:
        """How far from each point others may matter: to the rim of its ball, or to its last listed neighbor."""
        return torch.maximum(self.distances[:, -1].double(), self.squared).mul(1 + 1e-6).to(self.distances.dtype)

    @classmethod
    def found(cls, nearest: Shortlist, points: Points, k: int) -> Balls:
        """From the shortlist of every point among the others."""
        return cls(squared_radii(nearest, points, k), nearest.indices, nearest.keys)

    @classmethod
    def known(cls, radii: Radii, points: Points, k: int) -> Balls:
        """From radii that were found before. Raises :class:`MetricError` where they are of another set or k."""
        if radii.k != k or len(radii.squared) != len(points):
            raise MetricError(
                f"reference_radii is of {len(radii.squared)} points with k = {radii.k}; the reference has "
                f"{len(points)} and k = {k}: compute them again with neighbor_radii(reference, k={k})"
            )
        squared, neighbors, distances = (
            torch.as_tensor(array, device=points.device) for array in (radii.squared, radii.neighbors, radii.distances)
        )
        unit = points.scale**2
        return cls(squared * unit, neighbors, (distances * unit).to(points.low.dtype))


def balls_of(points: Points, k: int, radii: Radii | None = None) -> Balls:
    """The k-nearest-neighbor balls of the points, found or, where ``radii`` are given, taken from there."""
    if radii is not None:
        return Balls.known(radii, points, k)
    return Balls.found(symmetric_shortlist(points, listed(k)), points, k)


def listed(k: int) -> int:
    """Neighbors to list for balls of k: the standard errors need somewhat more than k."""
    if k < 1:
        raise MetricError(f"k = {k} is too small for a neighborhood ball; pass k >= 1")
    return split_half.listed_neighbors(k)


def inside(
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
    open_pairs = flatnonzero(compare(lower, squared_radius) & ~inside)
    measured, radius = exact(x, i[open_pairs], y, j[open_pairs]), squared_radius[open_pairs]
    if measured.device.type != "cpu":  # a radius may have been found elsewhere, where its sum has another order
        measured = torch.where((measured - radius).abs() <= _ROUNDING * radius, radius, measured)
    inside[open_pairs] = compare(measured, radius)
    return inside


def count(numbers: Int64[Tensor, " m"], at: Int64[Tensor, " p"], where: Bool[Tensor, " p"]) -> None:
    """Add one at each position ``where`` holds. Integers, which have one sum in any order."""
    numbers.index_add_(0, at, where.to(numbers.dtype))


def rank_among(
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
