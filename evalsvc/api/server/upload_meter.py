"""Count an upload toward the quota of its token while it is received, not only at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from evalsvc.api import schemas
from evalsvc.api.server.state import Server
from evalsvc.evaluation import quotas
from evalsvc.store import audit
from evalsvc.store.audit import Action

Result = TypeVar("Result")
STEP = 2**26
"""Bytes between two checks of the quota."""


class UploadMeter:
    """The count of one upload."""

    def __init__(self, server: Server, token: str) -> None:
        self._server, self._token = server, token
        self._number, self._uncounted = 0, 0

    async def begin(self, announced: int) -> None:
        """Reject an upload whose declared size exceeds the quota."""
        uploads = self._server.uploads
        self._number = await self._write(lambda session: quotas.begin_upload(session, self._token, announced, uploads))

    async def counted(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The body itself, up to the end of the quota."""
        async for chunk in body:
            self._uncounted += len(chunk)
            if self._uncounted >= STEP:
                await self._count()
            yield chunk
        await self._count()

    async def end(self, kept: schemas.Upload | None) -> None:
        """Count stored bytes as long as they are stored; a failed upload counts only toward the daily quota."""

        def write(session: Session) -> None:
            quotas.end_upload(session, self._number, kept.digest if kept else None)
            if kept:
                facts: dict[str, audit.Fact] = {"name": kept.name, "bytes": kept.bytes}
                audit.record(session, Action.UPLOAD_CREATE, f"upload {kept.digest}", facts)

        await self._write(write)

    async def _count(self) -> None:
        size, self._uncounted = self._uncounted, 0
        await self._write(lambda session: quotas.count_upload(session, self._number, self._token, size))

    async def _write(self, change: Callable[[Session], Result]) -> Result:
        def write() -> Result:
            with self._server.database.write() as session:
                return change(session)

        return await run_in_threadpool(write)
