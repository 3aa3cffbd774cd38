"""Diversity of the draws of one item: how far apart samples of the same prompt or label are."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float64, Num

from evalsvc.metrics.arrays import as_matrix, as_vector, block_rows, blocks, taken
from evalsvc.metrics.devices import device_of
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.members import Members
from evalsvc.metrics.registry import QUANTITIES, Quantity, metric
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.sums import add_by_label
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array


_EXACT = "donot_use_mm_for_euclid_dist"


@metric(
    Quantity(
        "diversity",
        Direction.HIGHER,
        unit="distance",
        low=0.0,
        unbiased_in_n=True,
        title="Diversity of draws",
        title_zh="抽样多样性",
    ),
    version=1,
)
def diversity(
    generated: Num[Array, "n d"],
    items: Num[Array, " n"],
    distance: Literal["cosine", "euclidean"] = "cosine",
    groups: Groups | None = None,
) -> Score:
    """Mean over items of the mean distance between two draws of the item; 0 if all draws are equal.

    ``items`` has one number a row, equal for the draws of an item. ``distance`` is ``1 - cos``, from 0 to 2, or
    Euclidean. Of each item it is the U-statistic over its pairs, without bias for any number of draws; items with a
    single draw are left out, and counted as ``too_few_draws``. The standard error is that over items, or over
    ``groups`` of them (one label a row); ``None`` under 20.

    Raises :class:`MetricError` if no item has two draws, on a row of zeros (which has no direction), NaN or infinity.

    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 2.0]])
    >>> round(diversity(x, np.array([0, 0, 1, 1])).value, 9)
    0.5
    """
    x = as_matrix(generated, "generated")
    labels = as_vector(items, "items").cpu().numpy()
    if len(labels) != len(x):
        raise MetricError(f"there are {len(x)} samples and items of {len(labels)}; pass the item of each sample")
    if distance not in ("cosine", "euclidean"):
        raise MetricError(f"there is no distance {distance!r}; there are 'cosine' and 'euclidean'")
    names, first, item = np.unique(labels, return_index=True, return_inverse=True)
    counts = np.bincount(item)
    if not (usable := counts > 1).any():
        raise MetricError("no item has two draws; diversity compares draws of the same item")
    every = Units.of(len(x), labels if groups is None and len(names) < len(x) else groups)
    members = Members.of(every, usable, first if every.owner is None else every.owner[first])
    by_item = (_cosine if distance == "cosine" else _euclidean)(x, item, counts)[members.rows]
    value, moves = members.moves(np.stack([by_item, np.ones(len(by_item))], axis=1), lambda s: s[..., 0] / s[..., 1])
    details = {"items": float(usable.sum())} | ({"too_few_draws": float((~usable).sum())} if not usable.all() else {})
    result = members.score(QUANTITIES["diversity"], value, moves, details=details)
    grouped = MappingProxyType({**result.details, "groups": float(members.units.count)})
    return replace(result, n=int(counts[usable].sum()), details=grouped)


def _cosine(x: Tensor, item: np.ndarray, counts: np.ndarray) -> Float64[np.ndarray, " items"]:
    """From the sum of an item's directions: its squared length is that of all pairs."""
    device, seen = device_of(x), []
    sums = torch.zeros(len(counts), x.shape[1], dtype=torch.float64, device=device)
    owners = torch.split(torch.from_numpy(item).to(device), block_rows(x))
    for owner, rows in zip(owners, blocks(x), strict=True):
        lengths = rows.norm(dim=1, keepdim=True)
        seen.append((lengths > 0).all())
        add_by_label(sums, owner, rows / lengths)
    if not bool(torch.stack(seen).all()):
        raise MetricError("a row of zeros has no direction, so that it has no cosine")
    squared = sums.square().sum(1).cpu().numpy()
    return np.asarray(np.maximum(0.0, 1 - (squared - counts) / np.maximum(1, counts * (counts - 1))))


def _euclidean(x: Tensor, item: np.ndarray, counts: np.ndarray) -> Float64[np.ndarray, " items"]:
    order = torch.from_numpy(np.argsort(item, kind="stable")).to(x.device)
    totals = []
    for members in torch.split(order, counts.tolist()):
        rows = taken(x, members).double()
        parts = torch.split(rows, max(1, 2**22 // len(rows)))
        # Distances from products of matrices lose those of draws that are almost equal.
        each = (torch.cdist(part, rows, compute_mode=_EXACT).sum() for part in parts)
        totals.append(sum(each, rows.new_zeros(())))
    return np.asarray(torch.stack(totals).cpu().numpy() / np.maximum(1, counts * (counts - 1)))
