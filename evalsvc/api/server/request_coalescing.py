"""Request coalescing: equal requests within half a second share one response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")
LARGEST = 512
"""Maximum number of cached values."""
HEAVIEST = 32 * 2**20
"""Maximum bytes of all cached values."""


@dataclass
class _Kept(Generic[Value]):
    """A cached value; ``weight`` is known once the value is."""

    made: float
    future: asyncio.Future[Value]
    weight: int = 0


class Coalesced(Generic[Value]):
    """Values by key, at most ``seconds`` old; concurrent requests for a key share one computation. For one event loop.

    ``weigh`` returns the bytes of a value; values that are old, or together too large, are dropped.
    """

    def __init__(self, seconds: float, weigh: Callable[[Value], int] = lambda _: 0) -> None:
        self._seconds, self._weigh = seconds, weigh
        self._kept: dict[Hashable, _Kept[Value]] = {}
        self._weight = 0

    async def get(self, key: Hashable, compute: Callable[[], Awaitable[Value]]) -> Value:
        """The value of the key, computed unless a fresh one is cached or in progress. Errors are not cached."""
        if self.fresh(key):
            kept = self._kept[key]
            try:
                return await asyncio.shield(kept.future)
            except asyncio.CancelledError:
                if not kept.future.cancelled():
                    raise
                # Only the computing request was canceled: another one takes over.
                return await compute()
        mine = _Kept[Value](time.monotonic(), asyncio.get_running_loop().create_future())
        while len(self._kept) >= LARGEST:
            self._drop(*next(iter(self._kept.items())))
        self._kept[key] = mine
        try:
            value = await compute()
        except BaseException as error:
            self._drop(key, mine)
            if isinstance(error, Exception):
                mine.future.set_exception(error)
                mine.future.exception()  # an error that no other request waits for need not be logged
            else:
                mine.future.cancel()
            raise
        mine.future.set_result(value)
        if self._kept.get(key) is mine:
            mine.weight = self._weigh(value)
            self._weight += mine.weight
            self._drop_heavy(key, mine)
        return value

    def fresh(self, key: Hashable) -> bool:
        """Whether the value is cached or in progress, so that requesting it computes nothing."""
        self._drop_old()
        return key in self._kept

    def clear(self) -> None:
        """Drop all values after a write. Values in progress may predate it and are not given to new requests."""
        self._kept.clear()
        self._weight = 0

    def _drop_old(self) -> None:
        now = time.monotonic()
        for key, kept in list(self._kept.items()):
            if now - kept.made < self._seconds:
                return  # all later ones are newer
            if kept.future.done():
                self._drop(key, kept)

    def _drop_heavy(self, newest: Hashable, kept: _Kept[Value]) -> None:
        if kept.weight > HEAVIEST:
            self._drop(newest, kept)
        for key, each in list(self._kept.items()):
            if self._weight <= HEAVIEST:
                return
            if each.weight:
                self._drop(key, each)

    def _drop(self, key: Hashable, kept: _Kept[Value]) -> None:
        if self._kept.get(key) is kept:
            del self._kept[key]
            self._weight -= kept.weight
