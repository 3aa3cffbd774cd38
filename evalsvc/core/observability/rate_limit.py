"""Rate limit for repeated events, so that clients cannot fill a log or a table."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

KEYS = 1024


class RateLimit:
    """At most ``most`` events per key in ``seconds``, and ten times as many over all keys."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._windows: OrderedDict[Hashable, list[float]] = OrderedDict()
        self._suppressed: dict[Hashable, int] = {}
        self._lock = Lock()

    def admit(self, key: Hashable) -> int | None:
        """Number of suppressed events of this key since the last admitted one; ``None`` if this one is too."""
        moment = self._clock()
        with self._lock:
            admitted = self._window(key, moment), self._window(None, moment)
            if len(admitted[0]) >= self._most or len(admitted[1]) >= 10 * self._most:
                if key in self._suppressed or len(self._suppressed) < KEYS:
                    self._suppressed[key] = self._suppressed.get(key, 0) + 1
                return None
            for window in admitted:
                window.append(moment)
            return self._suppressed.pop(key, 0)

    def _window(self, key: Hashable, moment: float) -> list[float]:
        """Times of this key's events inside the window; the keys that were idle the longest are dropped."""
        window = [at for at in self._windows.pop(key, []) if moment - at < self._seconds]
        self._windows[key] = window
        while len(self._windows) > KEYS:
            self._windows.popitem(last=False)
        return window
