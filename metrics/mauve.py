"""MAUVE: how close two sets of texts are, as the area under a divergence frontier of quantized embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Real
from scipy.special import rel_entr

from evalsvc.metrics import factorizations
from evalsvc.metrics.arrays import as_matrix, block_rows, same_width
from evalsvc.metrics.devices import staged
from evalsvc.metrics.kmeans import kmeans
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import Direction, MetricError, Score

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

MIXTURES = np.linspace(1e-6, 1 - 1e-6, 25)
"""Weights of the 25 mixtures on the frontier; its two ends (1, 0) and (0, 1) are added."""

SCALING = 5.0
VARIANCE_KEPT = 0.9
ROWS_A_BIN = 10

METHOD = "none: the spread over clusterings (seed_sd) is known, the one over samples is not"


@metric(Quantity("mauve", Direction.HIGHER, unit="area", low=0.0, high=1.0, title="MAUVE", title_zh="MAUVE"), version=1)
def mauve(generated: Real[Array, "n d"], reference: Real[Array, "m _d"], seeds: int = 5) -> Score:
    """MAUVE (Pillutla et al., 2021), mean over ``seeds`` clusterings, in [0, 1]. Higher is closer; 1 is equal.

    Rows are embeddings, one a text (in the paper the last token's hidden state of GPT-2 large). Both sets, scaled to
    unit length, are projected together onto the principal components that hold 90 % of the variance and clustered by
    k-means into a tenth as many bins as the smaller set has rows. The score is the area under the divergence frontier
    of the two histograms, 25 mixtures, scaling 5. Compare at equal n. ``details`` holds the standard deviation over
    seeds.

    Raises:
        MetricError: NaN or infinity, different widths, fewer than 20 rows in a set, or ``seeds`` below 1.

    >>> x = np.random.default_rng(0).standard_normal((200, 8))
    >>> round(mauve(x, x).value, 4), round(mauve(x + 10, -x - 10).value, 4)
    (1.0, 0.0041)
    """
    return _score("mauve", generated, reference, seeds, pseudocount=0.0)


@metric(
    Quantity("mauve_star", Direction.HIGHER, unit="area", low=0.0, high=1.0, title="MAUVE*", title_zh="MAUVE*"),
    version=1,
)
def mauve_star(generated: Real[Array, "n d"], reference: Real[Array, "m _d"], seeds: int = 5) -> Score:
    """MAUVE* (Pillutla et al., 2023): :func:`mauve` with 1/2 added to each bin of both histograms.

    The added half (Krichevsky and Trofimov) lowers the bias of small samples. Range, direction and errors as there.

    >>> x = np.random.default_rng(0).standard_normal((200, 8))
    >>> round(mauve_star(x, x).value, 4)
    1.0
    """
    return _score("mauve_star", generated, reference, seeds, pseudocount=0.5)


def divergence_frontier(
    p: Float64[np.ndarray, " bins"], q: Float64[np.ndarray, " bins"], scaling: float = SCALING
) -> tuple[Float64[np.ndarray, " points"], Float64[np.ndarray, " points"]]:
    """Points ``exp(-c KL(q | r)), exp(-c KL(p | r))`` for the mixtures r of two histograms, from (1, 0) to (0, 1)."""
    r = MIXTURES[:, None] * p + (1 - MIXTURES[:, None]) * q
    x, y = (np.exp(-scaling * rel_entr(side, r).sum(axis=1)) for side in (q, p))
    return np.r_[1.0, x, 0.0], np.r_[0.0, y, 1.0]


def frontier_area(p: Float64[np.ndarray, " bins"], q: Float64[np.ndarray, " bins"], scaling: float = SCALING) -> float:
    """Area under the divergence frontier of two histograms, by trapezoids: 1 if equal, near 0 if disjoint.

    >>> round(frontier_area(np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])), 8)
    0.82140998
    """
    x, y = divergence_frontier(p, q, scaling)
    return float(np.trapezoid(y[::-1], x[::-1]))


def _score(name: str, generated: Array, reference: Array, seeds: int, pseudocount: float) -> Score:
    if seeds < 1:
        raise MetricError(f"{name}: seeds={seeds}; at least one clustering is needed")
    left = as_matrix(generated, "generated", 2 * ROWS_A_BIN)
    right = as_matrix(reference, "reference", 2 * ROWS_A_BIN)
    same_width(left, right)
    n, m = len(left), len(right)
    bins = round(min(n, m) / ROWS_A_BIN)
    # k-means reads all points at every step: they are where a set is whole.
    device = right.device if left.device.type == "cpu" else left.device
    points = _principal(torch.cat([staged(_unit_rows(side), device) for side in (left, right)]))
    areas = []
    for seed in range(seeds):
        labels = kmeans(points, bins, seed).cpu()
        p, q = (_histogram(side, bins, pseudocount) for side in torch.split(labels, [n, m]))
        areas.append(frontier_area(p, q))
    spread = {"seed_sd": float(np.std(areas, ddof=1))} if seeds > 1 else {}
    details = {"bins": float(bins), "components": float(points.shape[1]), **spread}
    return score(name, float(np.mean(areas)), None, n=n, method=METHOD, details=details, reference=METHOD)


def _histogram(labels: Int64[Tensor, " n"], bins: int, pseudocount: float) -> Float64[np.ndarray, " bins"]:
    counts = torch.bincount(labels, minlength=bins).double().numpy() + pseudocount
    return np.asarray(counts / counts.sum())


def _unit_rows(x: Float[Tensor, "n d"]) -> Float32[Tensor, "n d"]:
    """Rows of length 1, zero rows left as they are. The largest entry is divided out first: no square overflows."""
    largest = x.abs().amax(dim=1, keepdim=True)
    return torch.nn.functional.normalize((x / largest.where(largest > 0, torch.ones_like(largest))).float())


def _principal(x: Float32[Tensor, "n d"]) -> Float32[Tensor, "n c"]:
    """Scores on the leading principal components, as few as hold 90 % of the variance, at least one."""
    centered = x - x.mean(dim=0, dtype=torch.float64).float()
    covariance = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    for block in torch.split(centered, block_rows(x)):
        covariance += block.T @ block
    values, vectors = factorizations.eigh(covariance)
    share = values.cpu().flip(0).clamp_min(0).cumsum(0)
    components = int((share < VARIANCE_KEPT * share[-1]).sum()) + 1
    scores: Tensor = centered @ vectors[:, -components:].float()
    return scores
