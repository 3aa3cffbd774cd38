"""Updates of followed evaluations: one database read for all streams together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from evalsvc.api import schemas

EVERY = 0.5
"""Seconds between two reads."""
QUIET = 1.0
"""Seconds without a change after which followers receive ``None``."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Update:
    """An evaluation as read from the database, and its serialized form."""

    evaluation: schemas.Evaluation
    data: str

    @classmethod
    def of(cls, evaluation: schemas.Evaluation) -> Update:
        """Serialize once for all streams."""
        return cls(evaluation, evaluation.model_dump_json())


class _Followed:
    def __init__(self) -> None:
        self.followers = 0
        self.latest: Update | None = None
        self.changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def publish(self, evaluation: schemas.Evaluation) -> None:
        if self.latest is None or self.latest.evaluation != evaluation:
            self.latest = Update.of(evaluation)
            self.changed.set_result(None)
            self.changed = asyncio.get_running_loop().create_future()


class ProgressFeed:
    """Poll the database while there are followers, in one event loop."""

    def __init__(self, load: Callable[[Collection[int]], list[schemas.Evaluation]]) -> None:
        self._load = load
        self._followed: dict[int, _Followed] = {}
        self._reading: asyncio.Task[None] | None = None

    async def follow(self, now: schemas.Evaluation) -> AsyncIterator[Update | None]:
        """Yield an evaluation that was just read, then each change of it; ``None`` after a second without one."""
        followed = self._followed.setdefault(now.id, _Followed())
        followed.followers += 1
        followed.publish(now)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        try:
            seen = None
            while True:
                changed = followed.changed
                if followed.latest is not seen:
                    seen = followed.latest
                    yield seen
                elif not (await asyncio.wait([changed], timeout=QUIET))[0]:
                    yield None
        finally:
            followed.followers -= 1
            if not followed.followers:
                del self._followed[now.id]

    async def _read(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            if not self._followed:
                return
            try:
                found = await run_in_threadpool(self._load, list(self._followed))
            except SQLAlchemyError as error:
                log.warning("the database is unavailable, and event streams wait: %s", type(error).__name__)
                continue
            for evaluation in found:
                if followed := self._followed.get(evaluation.id):
                    followed.publish(evaluation)
