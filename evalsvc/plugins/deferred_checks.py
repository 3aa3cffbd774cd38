"""Checks of numbers on a device: each waits for the device, so that a loop of batches makes all of them at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from jaxtyping import Int64

from evalsvc.core.errors import ModelError
from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Tensor

Message = Callable[[int], str]
_deferred: ContextVar[list[tuple[Tensor, Message]] | None] = ContextVar("deferred", default=None)


@contextmanager
def deferred() -> Iterator[None]:
    """Within, numbers on a device are not read by :func:`refuse` but at the end, where the first fault raises; also
    instead of a later error of a plug-in, of which it may be the cause.
    """
    checks: list[tuple[Tensor, Message]] = []
    token = _deferred.set(checks)
    try:
        yield
    except ModelError:
        with suppress(RuntimeError):  # the device may be lost
            _make(checks)
        raise
    finally:
        _deferred.reset(token)
    _make(checks)


def _make(checks: Sequence[tuple[Tensor, Message]]) -> None:
    if checks:
        counts = torch.stack([bad for bad, _ in checks]).tolist()
        for count, (_, message) in zip(counts, checks, strict=True):
            _require_none(count, message)


def refuse(bad: Int64[Tensor, ""], message: Message) -> None:
    """Raise if a number of bad samples is not zero.

    Raises:
        ModelError: with the message about that number.
    """
    checks = _deferred.get()
    if checks is None or bad.device.type == "cpu":
        _require_none(int(bad), message)
    else:
        checks.append((bad, message))


def _require_none(count: int, message: Message) -> None:
    if count:
        raise ModelError(message(count))
