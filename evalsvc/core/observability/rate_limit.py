"""How often the same may be recorded: what strangers repeat must fill neither a log nor a table."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

KEYS = 1024


class RateLimit:
    """At most ``most`` events of a key in ``seconds``, and of all keys together ten times as many."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._windows: OrderedDict[Hashable, list[float]] = OrderedDict()
        self._suppressed: dict[Hashable, int] = {}
        self._lock = Lock()

    def admit(self, key: Hashable) -> int | None:
        """How many of this key were suppressed since the last that was admitted; ``None`` if this one is too."""
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
        """Moments of this key's events that still count; the keys that were quiet the longest are forgotten."""
        window = [at for at in self._windows.pop(key, []) if moment - at < self._seconds]
        self._windows[key] = window
        while len(self._windows) > KEYS:
            self._windows.popitem(last=False)
        return window
