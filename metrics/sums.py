"""Sums that have the same digits each time: a device adds floats in any order, so that it adds integers here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float64, Int64

from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Tensor

_BITS = 62


def add_by_label(total: Float64[Tensor, "labels d"], labels: Int64[Tensor, " n"], rows: Float64[Tensor, "n d"]) -> None:
    """Add each row to the ``total`` of its label, in place."""
    if total.device.type == "cpu":
        total.index_add_(0, labels, rows)
    elif len(rows):
        whole, unit = _integers(rows, len(rows))
        sums = torch.zeros_like(total, dtype=torch.int64).index_add_(0, labels, whole)
        total += sums.double() * unit


def running_sums(x: Float64[Tensor, "*batch n"]) -> Float64[Tensor, "*batch n"]:
    """The sum of each entry and all before it along the last dimension."""
    if x.device.type == "cpu":
        return x.cumsum(-1)
    if not x.numel():
        return x
    whole, unit = _integers(x, x.shape[-1])
    return whole.cumsum(-1).double() * unit


def _integers(x: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    """``x`` in whole multiples of a unit so small that sums of as many terms just fit into an integer, and the unit."""
    exponent = torch.frexp(x.abs().amax()).exponent.double()
    unit = (exponent + (terms.bit_length() - _BITS)).exp2()
    return (x / unit).round_().to(torch.int64), unit
