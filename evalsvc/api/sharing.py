"""Requests that ask the same within half a second share one answer: a hundred watchers cost as much as one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")
LARGEST = 512


class Shared(Generic[Value]):
    """Values by key, each as old as ``seconds`` at most; of those who ask together, one computes. One event loop's."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._values: dict[Hashable, tuple[float, asyncio.Future[Value]]] = {}

    async def get(self, key: Hashable, compute: Callable[[], Awaitable[Value]]) -> Value:
        """The value of the key, computed unless a fresh one is here or under way. Errors are kept for nobody."""
        if self.fresh(key):
            _, future = self._values[key]
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                if not future.cancelled():
                    raise
                # Only the one who computed is gone: somebody else does.
                return await compute()
        future = asyncio.get_running_loop().create_future()
        self._keep(key, future)
        try:
            value = await compute()
        except BaseException as error:
            if self._values.get(key, (0.0, None))[1] is future:
                del self._values[key]
            if isinstance(error, Exception):
                future.set_exception(error)
                future.exception()  # that nobody else waited for it is no matter for the log
            else:
                future.cancel()
            raise
        future.set_result(value)
        return value

    def fresh(self, key: Hashable) -> bool:
        """Whether the value is here or under way, so that asking for it computes nothing."""
        made, future = self._values.get(key, (0.0, None))
        return future is not None and (not future.done() or time.monotonic() - made < self._seconds)

    def clear(self) -> None:
        """Forget all: something was written. What is under way may be of before, and is given to nobody new."""
        self._values.clear()

    def _keep(self, key: Hashable, future: asyncio.Future[Value]) -> None:
        self._values.pop(key, None)
        while len(self._values) >= LARGEST:
            del self._values[next(iter(self._values))]
        self._values[key] = time.monotonic(), future
