"""C_T: whether generated samples are nearer to the training set than held-out samples are."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float64, Num

from evalsvc.metrics import registry
from evalsvc.metrics.arrays import as_matrix, same_width
from evalsvc.metrics.cells import cells_of, kmeans
from evalsvc.metrics.devices import on_host
from evalsvc.metrics.influence import ABOUT_TRAINING
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.neighbors import knn
from evalsvc.metrics.points import common_frame
from evalsvc.metrics.registry import Quantity, metric
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

_LEAST_GENERATED = 20


@metric(
    Quantity("ct_score", Direction.NEUTRAL, "standard deviations", target=0.0, title="C_T score", title_zh="C_T 分数"),
    version=1,
    error_version=2,
)
def ct_score(
    generated: Num[Array, "n d"],
    train: Num[Array, "m d"],
    heldout: Num[Array, "h d"],
    cells: int = 10,
    seed: int = 2020,
    groups: Groups | None = None,
) -> Score:
    """C_T (Meehan et al. 2020): are generated samples nearer to the training set than held-out ones are?

    Space is cut into k-means cells of ``train``. In each cell the distances to its nearest training sample are
    compared by a Mann-Whitney U, as a z-score; cells are averaged by their share of held-out samples, over those with
    more than 20 generated ones. Below 0 is copying, around 0 none, above 0 underfitting; the scale grows with the
    square root of n. ``details`` holds the number of ``cells`` used.

    The value is itself measured against the chance of the held-out draw, so the standard error is for both sets
    redrawn (delta method), with training set and cells as they are. Raises :class:`MetricError` where no cell has
    enough samples, widths differ, or a value is not finite.

    >>> rng = np.random.default_rng(0)
    >>> train, new, heldout = (rng.standard_normal((500, 4)) for _ in range(3))
    >>> abs(ct_score(new, train, heldout).value) < 3, ct_score(train + 0.01 * new, train, heldout).value < -5
    (True, True)
    """
    names = ("generated", "train", "heldout")
    sets = [as_matrix(x, name) for x, name in zip((generated, train, heldout), names, strict=True)]
    sample, points, control = sets
    same_width(sample, points, ("generated", "train"))
    same_width(control, points, ("heldout", "train"))
    if cells < 1:
        raise MetricError(f"cells = {cells} cut no space; give at least 1")
    centers = kmeans(points, cells, seed)
    owners = [on_host(cells_of(x, centers)) for x in sets]
    used = [
        cell
        for cell in range(len(centers))
        if (owners[0] == cell).sum() > _LEAST_GENERATED and (owners[2] == cell).any()
    ]
    if not used:
        raise MetricError(
            f"none of {len(centers)} cells holds more than {_LEAST_GENERATED} of {len(sample)} generated samples and a "
            "held-out one; give more samples or fewer cells"
        )
    found = [_cell(*(_inside(x, owner == cell) for x, owner in zip(sets, owners, strict=True))) for cell in used]
    z, of_generated, of_heldout = zip(*found, strict=True)
    sizes = np.array([len(moves) for moves in of_heldout])
    weights = sizes / sizes.sum()
    value = float(weights @ z)
    psi, psi_heldout = np.zeros(len(sample)), np.zeros(len(control))
    for cell, weight, own, moves, others in zip(used, weights, z, of_generated, of_heldout, strict=True):
        psi[owners[0] == cell] = len(sample) * weight * moves
        psi_heldout[owners[2] == cell] = len(control) * (weight * others + (own - value) / sizes.sum())
    units = Units.of(len(sample), groups)
    variance, influence = units.estimate(psi)
    variance_heldout, of_control = Units.of(len(control)).estimate(psi_heldout)
    return registry.score(
        "ct_score",
        value,
        math.sqrt(variance + variance_heldout),
        n=len(sample),
        method="delta method over generated and held-out samples",
        details={"cells": float(len(found)), "n_train": float(len(points)), "n_heldout": float(len(control))},
        influence=replace(influence, control=of_control.whole),
        units=units,
        reference=ABOUT_TRAINING,
    )


def _inside(x: Float[Tensor, "n d"], chosen: Bool[np.ndarray, " n"]) -> Float[Tensor, "k d"]:
    return x[torch.from_numpy(np.flatnonzero(chosen)).to(x.device)]


def _cell(
    generated: Float[Tensor, "n d"], train: Float[Tensor, "m d"], heldout: Float[Tensor, "h d"]
) -> tuple[float, Float64[np.ndarray, " n"], Float64[np.ndarray, " h"]]:
    """The z-score of one cell, and how much each generated and each held-out sample moves it."""
    x, y, reference = common_frame(generated, heldout, train)
    far, control = (knn(points, reference, 1)[0][:, 0].cpu().numpy() for points in (x, y))
    ordered, ordered_control = np.sort(far), np.sort(control)
    exceeded = _mean_position(ordered_control, far)
    exceeding = len(far) - _mean_position(ordered, control)
    n, h = len(far), len(control)
    surplus = exceeded.sum() - n * h / 2 + 0.5
    spread = math.sqrt(n * h * (n + h + 1) / 12)
    z = surplus / spread

    def moves(won: Float64[np.ndarray, " p"], own: int, other: int) -> Float64[np.ndarray, " p"]:
        growth = other * (2 * own + other + 1) / 24 / spread
        moved: Float64[np.ndarray, " p"] = (won - other / 2 - z * growth) / spread
        return moved

    return float(z), moves(exceeded, n, h), moves(exceeding, h, n)


def _mean_position(ordered: Float64[np.ndarray, " a"], values: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
    """How many entries each value exceeds, equal ones counting half."""
    ends = [np.searchsorted(ordered, values, side) for side in ("left", "right")]
    position: Float64[np.ndarray, " b"] = np.mean(ends, axis=0)
    return position
