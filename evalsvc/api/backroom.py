"""A child process that opens checkpoints and judges gates, so that the server itself loads neither weights nor torch.

One task at a time; a task that takes too long, or takes its process with it, costs that process and no more.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from http import HTTPStatus
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from evalsvc import audit, wire
from evalsvc.api.problems import ProblemError
from evalsvc.lifecycle import Submission

SECONDS = 120.0
"""For one task; digesting a large checkpoint takes most of it."""
WAITING = 64
"""More tasks than this are sent away to come again."""


class Backroom:
    """The process and the way to it."""

    def __init__(self, plugins: tuple[Path, ...] = (), seconds: float = SECONDS) -> None:
        self._plugins, self._seconds = plugins, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._turn = anyio.CapacityLimiter(1)
        self._waiting = 0
        self._lock = threading.Lock()

    async def submit(self, asked: wire.Submit, path: Path | None) -> Submission:
        """Open all that an evaluation needs, and put it on the queue; ``path`` is the checkpoint, if it is none known.

        What is wrong with the request is raised here.
        """
        found: Submission = await self._ask("submit", asked, path)
        return found

    async def decide(self, asked: wire.DecideGate) -> int:
        """Judge what is stored and store the decision; the gate's id."""
        found: int = await self._ask("decide", asked)
        return found

    async def protect(self, alias: str, asked: wire.Protect, by: str) -> None:
        """Check a policy against its suite, and pin it to an alias."""
        await self._ask("protect", alias, asked, by)

    def warm(self) -> None:
        """Start the process now, so that the first request does not wait for its imports."""
        self._open()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._process is not None and self._pipe is not None:
                self._pipe.close()
                self._process.kill()
                self._process.wait()
            self._process = self._pipe = None

    async def _ask(self, task: str, *arguments: Any) -> Any:
        if self._waiting >= WAITING:
            raise _later("many checkpoints are being opened: try again")
        self._waiting += 1
        try:
            return await anyio.to_thread.run_sync(self._do, task, arguments, limiter=self._turn)
        finally:
            self._waiting -= 1

    def _do(self, task: str, arguments: tuple[Any, ...]) -> Any:
        pipe = self._open()
        try:
            pipe.send((task, arguments, audit.current()))
            if not pipe.poll(self._seconds):
                self.close()
                raise _later(f"this took more than {self._seconds:g} seconds and was ended")
            error, result = pipe.recv()
        except (EOFError, OSError):
            self.close()
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY, "opening this checkpoint ended the process that opened it"
            ) from None
        if error is not None:
            raise error
        return result

    def _open(self) -> Connection:
        with self._lock:
            if self._pipe is None:
                # Its own program: a fork would copy the locks of threads, and a spawn import the server's main module.
                self._pipe, other = Pipe()
                with other:
                    command = [sys.executable, "-m", "evalsvc.api.child", str(other.fileno()), *map(str, self._plugins)]
                    self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[other.fileno()])
            return self._pipe


def _later(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"retry-after": "5"})
