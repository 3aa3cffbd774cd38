"""Influences of rows on a kernel distance: those of the generated set, and those of the reference."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from evalsvc.metrics.influence import LEAST, Influence, Rows, some_rows
from evalsvc.metrics.kernel_sums import KernelSet
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.units import Units

if TYPE_CHECKING:
    from torch import Tensor

_PAIRS = 16
"""Pairs of rows a row that the pair function of groups may cost."""
_WITNESSES = 2000
TOO_FEW = f"none: fewer than {LEAST} reference rows"


def of_generated(
    of: KernelSet, sums: Float64[Tensor, " w"], witness: Float64[Tensor, " w"], rows: Rows, units: Units
) -> Influence:
    """The influence of the units that ``rows`` make up, from their kernel ``sums`` over all other rows.

    ``witness`` is their mean kernel to the reference. The pair function of two groups is the mean over pairs of their
    rows, of which large groups have too many.
    """
    mine = units.part(rows)
    psi = 2 * (sums / (units.rows - 1) - witness).cpu().numpy()
    _, influence = mine.estimate(psi)
    values, pair = _pairs(of, witness, mine)
    if len(values):
        scale = mine.count / mine.rows
        influence = replace(influence, pairs=(np.bincount(pair, values) * scale**2).astype(np.float32))
    within = influence.within if len(rows) == units.rows else None
    return replace(influence, n=units.count, student=units.clustered, within=within)


def reference_witnesses(m: int) -> Rows:
    """Some rows of ``m``, the same for every generated set, so that any two scores can be paired."""
    return some_rows(m, _WITNESSES)


def of_reference(
    of: KernelSet,
    sums: Float64[Tensor, " w"],
    m: int,
    crossed: Float64[Tensor, "w 2"],
    halves: tuple[Rows, Rows],
) -> Influence | str:
    """The influence of some of the ``m`` reference rows, from their kernel ``sums`` over the other ones.

    ``crossed`` are their sums over two ``halves`` of the generated set. What redrawing the reference adds is the
    variance of the expectation over generated sets: their own noise in the mean kernel to them, a term of order
    1 / (n m), is part of the other error already.
    """
    if m < LEAST:
        return TOO_FEW
    first, second = (len(half) for half in halves)
    n = first + second
    witness = crossed.sum(1) / n
    noise = 2 * (crossed[:, 0] / first - crossed[:, 1] / second) * math.sqrt(first * second) / n
    values, _ = _pairs(of, witness, Units.of(len(witness)))
    return Influence(
        m,
        whole=_centered(2 * (sums / (m - 1) - witness)),
        pairs=values.astype(np.float32),
        noise=_centered(noise),
    )


def _pairs(of: KernelSet, witness: Float64[Tensor, " w"], units: Units) -> tuple[Float64[np.ndarray, " p"], Rows]:
    """The pair function for disjoint pairs of units, and which pair each value is of."""
    first, second, pair = units.disjoint_pairs(_PAIRS * units.rows)
    if len(first) < 2:
        return np.empty(0), pair
    i, j = torch.from_numpy(first).to(witness.device), torch.from_numpy(second).to(witness.device)
    return (of.between(i, j) - witness[i] - witness[j]).cpu().numpy(), pair


def _centered(values: Float64[Tensor, " w"]) -> np.ndarray:
    return (values - values.mean()).cpu().numpy().astype(np.float32)
