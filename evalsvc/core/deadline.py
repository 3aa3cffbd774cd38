"""A time limit that interrupts any running code: generators, locks, database calls."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_INTERVAL = 0.1
_LONGEST = 1e9
"""Seconds, thirty years: the maximum of the system's timer."""


class Deadline(BaseException):
    """The time limit was exceeded. Not an ``Exception``, so that plug-ins do not catch it as an error of their own."""


class _Thread(threading.local):
    uninterrupted_blocks = 0


_thread = _Thread()


@dataclass(frozen=True)
class TimeLimit:
    """Seconds shared by several blocks, counted from construction; ``None`` means no limit."""

    seconds: float | None
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def block(self) -> Iterator[None]:
        """Raise :class:`Deadline` inside the block when the time is up, or before the block if it is up already."""
        left = None if self.seconds is None else self.started + self.seconds - time.monotonic()
        if left is not None and left <= 0:
            raise _overdue(self.seconds)
        with deadline(left, self.seconds):
            yield


@contextmanager
def deadline(seconds: float | None, limit: float | None = None) -> Iterator[None]:
    """Raise :class:`Deadline` inside the block after this many seconds; ``None`` never raises. Main thread, POSIX.

    The message mentions ``limit`` seconds, if ``seconds`` is the remainder of a longer limit.

    Python drops exceptions raised in a finalizer or a weak reference's callback, and the alarm may fire inside one.
    Therefore it fires repeatedly until the exception propagates, and a block that ends after the alarm fired still
    raises.
    """
    if seconds is None:
        yield
        return
    overdue: Deadline | None = None
    finished = False

    def raise_alarm(_signal: int, _frame: Any) -> None:
        nonlocal overdue
        if finished:
            return
        overdue = _overdue(limit or seconds)
        if not (_thread.uninterrupted_blocks or _is_handled(sys.exception())):
            raise overdue

    before = signal.signal(signal.SIGALRM, raise_alarm)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, min(seconds, _LONGEST), _INTERVAL)
            yield
        finally:
            finished = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if overdue:
        raise overdue


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A block that no :class:`Deadline` of this thread interrupts: the alarm fires again after the block."""
    _thread.uninterrupted_blocks += 1
    try:
        yield
    finally:
        _thread.uninterrupted_blocks -= 1


def _overdue(seconds: float | None) -> Deadline:
    return Deadline(f"timed out after {seconds:g} s")


def _is_handled(error: BaseException | None) -> bool:
    """Whether a :class:`Deadline` is being handled: cleanup code must not be interrupted again."""
    while error and not isinstance(error, Deadline):
        error = error.__context__
    return error is not None
