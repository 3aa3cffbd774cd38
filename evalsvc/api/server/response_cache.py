"""The last answers, so that what was just computed for one reader is not computed again for the next."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock


class Recent:
    """Answers by key, of ``limit`` bytes together at most; the one that was not asked for the longest goes first."""

    def __init__(self, limit: int) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._limit, self._bytes, self._lock = limit, 0, Lock()

    def get(self, key: str) -> bytes | None:
        """The answer, if it is still here."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Keep an answer, unless it alone is more than the limit."""
        if len(value) > self._limit:
            return
        with self._lock:
            self._bytes += len(value) - len(self._kept.pop(key, b""))
            self._kept[key] = value
            while self._bytes > self._limit:
                self._bytes -= len(self._kept.popitem(last=False)[1])
