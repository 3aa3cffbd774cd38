"""Cells of a feature space: the points nearest to one of a few seeded k-means centers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int64

from evalsvc.metrics.arrays import block_rows, blocks
from evalsvc.metrics.devices import device_of, staged
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.sums import add_by_label

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDS = 50


def cells_of(x: Float[Tensor, "n d"], centers: Float[Tensor, "c d"]) -> Int64[Tensor, " n"]:
    """Index of the center nearest to each row."""
    middle = centers.mean(0)
    seen = centers - middle
    lengths = seen.square().sum(1)
    return torch.cat([torch.addmm(lengths, block - middle, seen.T, alpha=-2).argmin(1) for block in blocks(x)])


def kmeans(x: Float[Tensor, "n d"], count: int, seed: int) -> Float[Tensor, "c d"]:
    """At most ``count`` centers in float64 by Lloyd's rounds from a seeded k-means++ start; fewer if rows repeat."""
    centers = _spread_out(x, count, np.random.default_rng(seed))
    owner = cells_of(x, centers)
    for _ in range(_ROUNDS):
        total = torch.zeros_like(centers)
        for part, block in zip(torch.split(owner, block_rows(x)), blocks(x), strict=True):
            add_by_label(total, part, block)
        sizes = torch.bincount(owner, minlength=len(centers))
        inhabited = sizes.nonzero().squeeze(1)
        centers = total[inhabited] / sizes[inhabited, None]
        before, owner = owner, cells_of(x, centers)
        if torch.equal(before, owner):
            break
    return centers


def _spread_out(x: Float[Tensor, "n d"], count: int, rng: np.random.Generator) -> Float[Tensor, "c d"]:
    """Rows drawn one after another, each with a chance that grows with its squared distance to those before."""
    chosen = [int(rng.integers(len(x)))]
    device = device_of(x)
    nearest = torch.full((len(x),), torch.inf, dtype=torch.float64, device=device)
    while True:
        latest = staged(x[chosen[-1]], device, torch.float64)
        nearest = torch.minimum(nearest, torch.cat([(block - latest).square().sum(1) for block in blocks(x)]))
        cumulative = nearest.cpu().cumsum(0)
        if len(chosen) == count or not float(cumulative[-1]) > 0:
            return staged(x[chosen], device, torch.float64)
        drawn = torch.searchsorted(cumulative, float(rng.random()) * cumulative[-1], right=True)
        chosen.append(min(int(drawn), len(x) - 1))
