"""Devices: where the arrays of a metric meet, and where rows that stay on the host are computed.

A metric computes where its arrays are. Arrays that do not fit on an accelerator stay on the host, and
:func:`working_on` has their rows computed there block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Tensor

_working: ContextVar[torch.device | None] = ContextVar("working", default=None)


@contextmanager
def working_on(device: torch.device) -> Iterator[None]:
    """Within, rows of arrays on the host are computed on ``device``, block by block, by all that reads blocks."""
    token = _working.set(device)
    try:
        yield
    finally:
        _working.reset(token)


def device_of(*arrays: Tensor) -> torch.device:
    """Where arrays are computed: on the accelerator that one of them is on, else where :func:`working_on` says."""
    for array in arrays:
        if array.device.type != "cpu":
            return array.device
    return _working.get() or torch.device("cpu")


def together(*arrays: Tensor) -> tuple[Tensor, ...]:
    """The arrays, whole, on the device where they are computed."""
    device = device_of(*arrays)
    return tuple(staged(array, device) for array in arrays)


def staged(rows: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Rows on a device, from the host through pinned memory, so that the copy overlaps with what runs there."""
    if rows.device == device:
        return rows.to(dtype or rows.dtype)
    if rows.device.type == "cpu" and device.type == "cuda":
        rows = rows.contiguous().pin_memory()
    return rows.to(device, non_blocking=True).to(dtype or rows.dtype)
