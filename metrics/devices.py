"""Devices: where the arrays of a metric meet, and where rows that stay on the host are computed.

A metric computes where its arrays are: on the accelerator that one of them is on. Arrays that do not fit there stay on
the host, and :func:`working_on` has their rows computed on the accelerator block by block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from evalsvc.metrics.full_precision import full_precision
from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])
_NEVER = ("cpu", "mps")
"""No accelerators here: MPS has no float64, so that its arrays are brought to the host."""
_PINNED = 2**28
"""Bytes of the largest array that is copied through pinned memory, of which a process keeps what it once took."""
_working: ContextVar[torch.device | None] = ContextVar("working", default=None)


@contextmanager
def working_on(device: torch.device) -> Iterator[None]:
    """Within, rows of arrays on the host are computed on ``device``, block by block, by all that reads blocks."""
    token = _working.set(indexed(device))
    try:
        yield
    finally:
        _working.reset(token)


def where_inputs_are(function: F) -> F:
    """Have a function compute in full precision, on the accelerator that one of its arguments is on.

    The others may be on the host: their rows are then read as :func:`working_on` says.
    """

    @full_precision()
    @functools.wraps(function)
    def there(*inputs: Any, **named: Any) -> Any:
        devices = (getattr(each, "device", None) for each in (*inputs, *named.values()))
        found = next((each for each in devices if getattr(each, "type", "cpu") not in _NEVER), None)
        with nullcontext() if found is None else working_on(found):
            return function(*inputs, **named)

    return cast(F, there)


def indexed(device: torch.device) -> torch.device:
    """A device as its tensors name it: with an index."""
    return torch.empty(0, device=device).device


def device_of(*arrays: Tensor) -> torch.device:
    """Where arrays are computed: where :func:`working_on` says, else on the accelerator that one of them is on."""
    there = (array.device for array in arrays if array.device.type != "cpu")
    return _working.get() or next(there, torch.device("cpu"))


def together(*arrays: Tensor) -> tuple[Tensor, ...]:
    """The arrays, whole, on the device where they are computed."""
    device = device_of(*arrays)
    return tuple(staged(array, device) for array in arrays)


def placed(*arrays: Tensor) -> tuple[Tensor, ...]:
    """The arrays where they are computed; within :func:`working_on` those on the host stay there, to be staged."""
    return arrays if _working.get() else together(*arrays)


def staged(rows: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Rows on a device; from the host through pinned memory, so that the next are read while these are on their way."""
    pinned = rows.device.type == "cpu" and device.type == "cuda" and rows.nbytes <= _PINNED
    if pinned:
        rows = rows.contiguous().pin_memory()
    # Any other copy is waited for: to the host its numbers would not be there yet, and from memory that is not pinned
    # they may be gone before they are read.
    return rows.to(device, non_blocking=pinned).to(dtype or rows.dtype)


def staged_together(arrays: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Arrays of any shapes and one dtype on a device; from one other, in one copy."""
    places = {array.device for array in arrays}
    if len(places) != 1 or device in places:
        return [staged(array, device) for array in arrays]
    flat = staged(torch.cat([array.flatten() for array in arrays]), device)
    parts = torch.split(flat, [array.numel() for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


def on_host(x: Any) -> np.ndarray:
    """An array of any kind as one of NumPy."""
    return np.asarray(x.cpu() if hasattr(x, "cpu") else x)
