"""Realism: how deep inside the reference manifold each single generated sample lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Num

from evalsvc.metrics.arrays import same_width
from evalsvc.metrics.balls import Radii, balls_of, checked_sample
from evalsvc.metrics.distances import exact, flatnonzero, sweep
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.neighbors import Shortlist
from evalsvc.metrics.points import Points, common_frame

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

_LISTED = 8


def realism(
    generated: Num[Array, "n d"], reference: Num[Array, "m d"], k: int = 3, reference_radii: Radii | None = None
) -> Float64[np.ndarray, " n"]:
    """Realism of each generated sample (Kynkaanniemi et al. 2019): max over reference balls of radius / distance.

    Only balls of at most the median radius count, since large ones lie where the reference is thin. From 0; 1 is the
    rim of the nearest ball, higher is better, infinite for a copy of a reference sample. Raises :class:`MetricError`
    unless m > k, widths agree and all values are finite.

    >>> realism(np.array([[1.5], [8.0]]), np.arange(5.0)[:, None], k=1)
    array([2.  , 0.25])
    """
    points, sample = checked_sample(reference, "reference", k), checked_sample(generated, "generated", 0)
    same_width(sample, points)
    x, y = common_frame(points, sample)
    squared = balls_of(x, k, reference_radii).squared
    kept = flatnonzero((squared <= squared.median()) & (squared > 0))
    if not len(kept):
        return np.zeros(len(y))
    return (1 / _least_ratio(y, x.take(kept), squared[kept])).sqrt().cpu().numpy()


def _least_ratio(y: Points, x: Points, squared: Float64[Tensor, " m"]) -> Float64[Tensor, " n"]:
    """Least of squared distance over squared radius, for each row of y."""
    nearest = Shortlist.empty(len(y), min(_LISTED, len(x)), y)
    inverse = (1 / squared).to(x.low.dtype)
    for block in sweep(y, x):
        block.lower.mul_(inverse[block.columns])
        nearest.offer(block)
    row, slot = (nearest.indices >= 0).nonzero(as_tuple=True)
    ratios = torch.full(nearest.keys.shape, torch.inf, dtype=torch.float64, device=squared.device)
    ratios[row, slot] = exact(y, row, x, nearest.indices[row, slot]) / squared[nearest.indices[row, slot]]
    least = ratios.min(1).values
    if x.low.dtype == torch.float32 and len(x) > _LISTED:
        # The last key, but for the rounding of one product, is below every ratio that was not measured.
        unsure = flatnonzero(nearest.keys[:, -1].double() * (1 - 1e-6) < least)
        if len(unsure):
            least[unsure] = _least_ratio(y.take(unsure).within(torch.float64), x.within(torch.float64), squared)
    return least
