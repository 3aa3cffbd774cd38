"""Lloyd's algorithm that only looks again at what may have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64

from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.sums import add_by_label

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
    sizes = sums.new_zeros(k, 1)
    every = torch.arange(k, device=x.device)
    labels, best = _nearest(x, centers, every)
    switched, before = torch.arange(len(x), device=x.device), None
    for _ in range(ITERATIONS):
        after, rows = labels[switched], x[switched].double()
        one = rows.new_ones(len(rows), 1)
        add_by_label(sums, after, rows)
        add_by_label(sizes, after, one)
        touched = sizes[:, 0] > 0
        if before is not None:
            add_by_label(sums, before, -rows)
            add_by_label(sizes, before, -one)
            changed = torch.zeros_like(touched).index_fill_(0, before, True).index_fill_(0, after, True)
            touched = changed & (sizes[:, 0] > 0)
        moved = touched.nonzero().flatten()
        centers[moved] = (sums[moved] / sizes[moved]).float()

        previous = labels.clone()
        own_moved = touched[labels]
        homeless, settled = own_moved.nonzero().flatten(), (~own_moved).nonzero().flatten()
        labels[homeless], best[homeless] = _nearest(x[homeless], centers, every)
        rival, score = _nearest(x[settled], centers, moved)
        won = score < best[settled]
        labels[settled] = torch.where(won, rival, labels[settled])
        best[settled] = torch.where(won, score, best[settled])

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
