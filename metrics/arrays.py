"""Validation of input arrays and their conversion to tensors, without a copy of large ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from evalsvc.metrics.devices import device_of, staged
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.score import MetricError

if TYPE_CHECKING:
    from torch import Tensor

    Array = np.ndarray | Tensor

_BLOCK_BYTES = 2**25
_EXACT_IN_FLOAT32 = ("float16", "bfloat16", "bool", "uint8", "int8", "int16")


def as_matrix(x: Any, name: str, minimum: int = 1) -> Tensor:
    """``x`` as a finite float tensor of shape (n, d) with at least ``minimum`` rows.

    float32 and float64 input is not copied (a memory-mapped file stays on disk); narrower types become float32
    and integers float64. Tensors keep their device. Raises :class:`MetricError` naming ``name`` otherwise.
    """
    tensor = _as_float(x, name)
    if tensor.ndim != 2:
        raise MetricError(f"{name} has shape {tuple(tensor.shape)}; pass an array of shape (n, d), one row per sample")
    n, d = tensor.shape
    if n < minimum or d == 0:
        raise MetricError(f"{name} has {n} rows of {d} columns; at least {minimum} rows and 1 column are needed")
    _refuse_non_finite(tensor, name)
    return tensor


def as_vector(x: Any, name: str, minimum: int = 1) -> Tensor:
    """``x`` as a finite float64 tensor of shape (n,) with at least ``minimum`` elements."""
    tensor = _as_float(x, name).to(torch.float64)
    if tensor.ndim != 1:
        raise MetricError(f"{name} has shape {tuple(tensor.shape)}; pass an array of shape (n,), one number per sample")
    if len(tensor) < minimum:
        raise MetricError(f"{name} has {len(tensor)} elements; at least {minimum} are needed")
    _refuse_non_finite(tensor, name)
    return tensor


def same_width(first: Tensor, second: Tensor, names: tuple[str, str] = ("generated", "reference")) -> None:
    """Raise :class:`MetricError` unless both matrices have the same number of columns."""
    if first.shape[-1] != second.shape[-1]:
        raise MetricError(
            f"{names[0]} has {first.shape[-1]} columns and {names[1]} has {second.shape[-1]}; "
            "both must come from the same extractor"
        )


def block_rows(x: Tensor) -> int:
    """How many rows of ``x`` make a block of some 32 MB in float64."""
    return max(1, min(4096, _BLOCK_BYTES // (8 * max(1, x.shape[-1]))))


def blocks(x: Tensor, rows: int | None = None, dtype: torch.dtype | None = None) -> Iterator[Tensor]:
    """Consecutive blocks of the rows of ``x`` where they are computed, in ``dtype`` (float64), one at a time."""
    for block in torch.split(x, rows or block_rows(x)):
        yield staged(block, device_of(x), dtype or torch.float64)


def taken(x: Tensor, rows: Tensor) -> Tensor:
    """Some rows of ``x``, where they are computed."""
    return staged(x[rows.to(x.device)], device_of(x))


def _as_float(x: Any, name: str) -> Tensor:
    if isinstance(x, torch.Tensor):
        tensor = x.detach()
        if tensor.device.type == "mps":  # has no float64, in which everything here is summed
            tensor = tensor.cpu()
    else:
        tensor = _from_numpy(np.asarray(x), name)
    if tensor.is_complex():
        raise MetricError(f"{name} is complex; pass real numbers")
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    return tensor.to(torch.float32 if str(tensor.dtype).removeprefix("torch.") in _EXACT_IN_FLOAT32 else torch.float64)


def _from_numpy(array: np.ndarray, name: str) -> Tensor:
    if array.dtype.kind not in "biufc":
        raise MetricError(f"{name} has dtype {array.dtype}; pass numbers")
    if array.dtype == np.longdouble or not array.dtype.isnative:
        array = array.astype(np.float64)
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _refuse_non_finite(tensor: Tensor, name: str) -> None:
    rows = block_rows(tensor)
    parts = torch.split(tensor, rows)
    # A sum is one pass without a mask; it is only doubted where it overflows or meets NaN.
    sums = torch.stack([part.sum() for part in parts]).cpu()
    for doubted in (~sums.isfinite()).nonzero().flatten().tolist():
        bad = (~parts[doubted].isfinite()).nonzero()
        if len(bad):
            first = rows * doubted + int(bad[0, 0])
            raise MetricError(f"{name} holds NaN or infinity, first in row {first}; correct or remove it")
