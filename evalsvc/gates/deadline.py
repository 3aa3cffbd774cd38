"""A time limit that reaches into whatever runs: generators, locks, the database."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Deadline(BaseException):
    """The time is up. No plug-in may take it for an error of its own, hence no ``Exception``."""


@contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Raise :class:`Deadline` inside the block after so many seconds; ``None`` never does. Main thread, POSIX."""
    if seconds is None:
        yield
        return

    def ring(_signal: int, _frame: Any) -> None:
        raise Deadline(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
