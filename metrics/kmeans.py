"""Lloyd's algorithm that only looks again at what may have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64

from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Tensor

ITERATIONS = 300
ROWS = 8192
"""Rows scored at once: bounds memory to this many rows of one number a center."""


def kmeans(x: Float32[Tensor, "n d"], k: int, seed: int) -> Int64[Tensor, " n"]:
    """The cluster, 0 to k - 1, of each row of ``x``, from ``k`` rows drawn as first centers.

    Exact Lloyd iterations until no row changes its cluster. A row is scored against the centers that moved, and only
    where its own center moved against all of them; toward the end almost none move. A cluster that loses its last row
    keeps its center.
    """
    start = np.random.default_rng(seed).choice(len(x), k, replace=False)
    centers = x[torch.from_numpy(start).to(x.device)]
    sums = torch.zeros_like(centers, dtype=torch.float64)
    sizes = torch.zeros(k, dtype=torch.float64, device=x.device)
    moved = torch.arange(k, device=x.device)
    labels, best = _nearest(x, centers, moved)
    switched, before = torch.arange(len(x), device=x.device), None
    for _ in range(ITERATIONS):
        after, rows = labels[switched], x[switched].double()
        sums.index_add_(0, after, rows)
        sizes += torch.bincount(after, minlength=k)
        if before is not None:
            sums.index_add_(0, before, -rows)
            sizes -= torch.bincount(before, minlength=k)
            moved = torch.bincount(torch.cat([before, after]), minlength=k).nonzero().flatten()
        moved = moved[sizes[moved] > 0]
        centers[moved] = (sums[moved] / sizes[moved, None]).float()

        previous = labels.clone()
        homeless = torch.isin(labels, moved)
        settled = (~homeless).nonzero().flatten()
        labels[homeless], best[homeless] = _nearest(x[homeless], centers, torch.arange(k, device=x.device))
        rival, score = _nearest(x[settled], centers, moved)
        won = score < best[settled]
        labels[settled[won]], best[settled[won]] = rival[won], score[won]

        switched = (labels != previous).nonzero().flatten()
        before = previous[switched]
        if not len(switched):
            break
    return labels


def _nearest(
    x: Float32[Tensor, "n d"], centers: Float32[Tensor, "k d"], among: Int64[Tensor, " some"]
) -> tuple[Int64[Tensor, " n"], Float32[Tensor, " n"]]:
    """The nearest of some centers, and half the squared distance to it less half the row's own squared length."""
    chosen = centers[among]
    half = chosen.square().sum(dim=1) / 2
    found = [torch.addmm(half, block, chosen.T, alpha=-1).min(dim=1) for block in torch.split(x, ROWS)]
    return among[torch.cat([f.indices for f in found])], torch.cat([f.values for f in found])
