"""A time limit that reaches into whatever runs: generators, locks, the database."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_AGAIN = 0.1
_LONGEST = 1e9
"""Seconds, thirty years: what an alarm clock of the system holds."""


class Deadline(BaseException):
    """The time is up. No plug-in may take it for an error of its own, hence no ``Exception``."""


class _Thread(threading.local):
    to_finish = 0


_thread = _Thread()


@dataclass(frozen=True)
class TimeLimit:
    """Seconds that several blocks have together, from when this was made; ``None`` is no limit."""

    seconds: float | None
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def block(self) -> Iterator[None]:
        """Raise :class:`Deadline` inside the block when the time is up; before it, where it is up already."""
        left = None if self.seconds is None else self.started + self.seconds - time.monotonic()
        if left is not None and left <= 0:
            raise _late(self.seconds)
        with deadline(left, self.seconds):
            yield


@contextmanager
def deadline(seconds: float | None, told: float | None = None) -> Iterator[None]:
    """Raise :class:`Deadline` inside the block after so many seconds; ``None`` never does. Main thread, POSIX.

    Its message speaks of ``told`` seconds, where these are what is left of more.

    Python drops what is raised in a finalizer or a weak reference's callback, and the alarm may ring in one. So it
    rings again until the exception is on its way out, and a block that ends after it rang is late all the same.
    """
    if seconds is None:
        yield
        return
    late: Deadline | None = None
    ended = False

    def ring(_signal: int, _frame: Any) -> None:
        nonlocal late
        if ended:
            return
        late = _late(told or seconds)
        if not (_thread.to_finish or _on_its_way(sys.exception())):
            raise late

    before = signal.signal(signal.SIGALRM, ring)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, min(seconds, _LONGEST), _AGAIN)
            yield
        finally:
            ended = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if late:
        raise late


@contextmanager
def finished_first() -> Iterator[None]:
    """A block that no :class:`Deadline` of this thread interrupts: it rings again when the block has ended."""
    _thread.to_finish += 1
    try:
        yield
    finally:
        _thread.to_finish -= 1


def _late(seconds: float | None) -> Deadline:
    return Deadline(f"no answer within {seconds:g} s")


def _on_its_way(error: BaseException | None) -> bool:
    """Whether a :class:`Deadline` is being handled: what cleans up after it is left in peace."""
    while error and not isinstance(error, Deadline):
        error = error.__context__
    return error is not None
