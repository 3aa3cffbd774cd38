"""A cache of responses, so that a response is not computed again for the next client."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock


class Recent:
    """Responses by key with at most ``limit`` bytes in total; the least recently used one is dropped first."""

    def __init__(self, limit: int) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._limit, self._bytes, self._lock = limit, 0, Lock()

    def get(self, key: str) -> bytes | None:
        """The cached response, if any."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Cache a response, unless it exceeds the limit by itself."""
        if len(value) > self._limit:
            return
        with self._lock:
            self._bytes += len(value) - len(self._kept.pop(key, b""))
            self._kept[key] = value
            while self._bytes > self._limit:
                self._bytes -= len(self._kept.popitem(last=False)[1])
