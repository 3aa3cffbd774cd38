"""The last answers, so that what was just computed for one reader is not computed again for the next."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock


class Recent:
    """A few answers by key; the one that was not asked for the longest goes first."""

    def __init__(self, size: int) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size, self._lock = size, Lock()

    def get(self, key: str) -> bytes | None:
        """The answer, if it is still here."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Keep an answer."""
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
