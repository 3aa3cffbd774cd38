"""Fair turns at a limited resource, so that a client with many requests does not delay others."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from http import HTTPStatus

from evalsvc.api.server.problems import ProblemError


class Shares:
    """``slots`` concurrent turns, at most ``each`` for one key, with up to ``waiting`` more in its queue.

    A free turn goes to the least recently served key. For one event loop.
    """

    def __init__(self, what: str, slots: int, each: int, waiting: int) -> None:
        self.what, self.slots, self.each, self.waiting = what, slots, each, waiting
        self._running = Counter[Hashable]()
        self._lines: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, key: Hashable, patience: float | None = None) -> AsyncIterator[None]:
        """Wait for a turn, and hold it until the end of the block.

        Raises:
            ProblemError: the queue of the key is full (429), all turns are taken and waiting is not possible, or there
                was no
                free turn within ``patience`` seconds (503).
        """
        if self._running[key] < self.each and self._running.total() < self.slots:
            self._running[key] += 1
        else:
            await self._wait(key, patience)
        try:
            yield
        finally:
            self._end(key)

    async def _wait(self, key: Hashable, patience: float | None) -> None:
        line = self._lines.get(key, deque())
        if len(line) >= self.waiting:
            if self._running[key] >= self.each:
                raise _later(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    f"you have {self._running[key] + len(line)} concurrent {self.what}: wait for one to end",
                )
            raise _later(
                HTTPStatus.SERVICE_UNAVAILABLE, f"this server is at its limit of {self.slots} {self.what}: try again"
            )
        self._lines[key] = line
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(mine)
        try:
            async with asyncio.timeout(patience):
                await mine
        except BaseException as error:
            if mine.done() and not mine.cancelled():
                self._end(key)  # the turn arrived just when the wait ended
            else:
                self._leave(key, mine)
            if isinstance(error, TimeoutError):
                detail = f"the server is busy and could not start within {patience:g} seconds: try again"
                raise _later(HTTPStatus.SERVICE_UNAVAILABLE, detail) from None
            raise

    def _end(self, key: Hashable) -> None:
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        while self._running.total() < self.slots:
            waiting = next((each for each in self._lines if self._running[each] < self.each), None)
            if waiting is None:
                return
            line = self._lines[waiting]
            mine = line.popleft()
            self._lines.move_to_end(waiting)
            if not line:
                del self._lines[waiting]
            if not mine.done():  # otherwise its task was canceled and has not run since
                self._running[waiting] += 1
                mine.set_result(None)

    def _leave(self, key: Hashable, mine: asyncio.Future[None]) -> None:
        line = self._lines.get(key, deque())
        if mine in line:
            line.remove(mine)
            if not line:
                del self._lines[key]


def _later(status: HTTPStatus, detail: str) -> ProblemError:
    return ProblemError(status, detail, {"retry-after": "5"})
