"""Child processes that load checkpoints and judge gates, so that the server itself loads neither weights nor torch.

Each process runs one task at a time, and each kind of task has its own processes: a slow checkpoint does not delay
gates, and no token occupies more than half of them. A task that takes too long or crashes affects only its process.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from evalsvc.api import schemas
from evalsvc.api.server.bounded_process import BoundedProcess
from evalsvc.api.server.problems import ProblemError
from evalsvc.api.server.shares import Shares
from evalsvc.evaluation.lifecycle import Submission
from evalsvc.store import audit

SECONDS = 120.0
"""Time limit of one task, after a wait of half as long; most of it is for digesting large checkpoints."""
WAITING = 16
"""Maximum number of waiting tasks of one token."""


class Crew:
    """The processes for one kind of task."""

    def __init__(self, what: str, crash: str, plugins: tuple[Path, ...], processes: int, seconds: float) -> None:
        self._crash, self.seconds = crash, seconds
        self.processes = [
            BoundedProcess("evalsvc.api.server.task_process_main", [*map(str, plugins)]) for _ in range(processes)
        ]
        self._idle = list(reversed(self.processes))
        self._threads = anyio.CapacityLimiter(processes)
        self.shares = Shares(what, processes, max(1, processes // 2), WAITING)

    async def ask(self, task: str, *arguments: Any) -> Any:
        """Run a task for a token and return its result; faults of the request are raised here."""
        actor = audit.current()
        async with self.shares.turn(actor.token, self.seconds / 2):
            process = self._idle.pop()  # the most recently used process first, so that unneeded ones are never started
            try:
                message = task, arguments, actor
                error, result = await anyio.to_thread.run_sync(
                    process.ask, self.seconds, message, limiter=self._threads
                )
            except TimeoutError as expired:
                detail = f"{expired} and was stopped"
                raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"retry-after": "60"}) from None
            except EOFError:
                raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, self._crash) from None
            finally:
                self._idle.append(process)
        if error is not None:
            raise error
        return result


class TaskProcesses:
    """The task processes of a server."""

    def __init__(
        self, plugins: tuple[Path, ...] = (), opening: int = 2, deciding: int = 2, seconds: float = SECONDS
    ) -> None:
        crash = "loading this checkpoint crashed the loader process"
        self.opening = Crew("checkpoints being loaded", crash, plugins, opening, seconds)
        crash = "judging this gate crashed its process"
        self.deciding = Crew("gates being judged", crash, plugins, deciding, seconds)

    async def submit(self, asked: schemas.EvaluationCreate, path: Path | None) -> Submission:
        """Open everything that an evaluation needs, and enqueue it; ``path`` is the checkpoint unless it is a known
        one.

        Faults of the request are raised here.
        """
        found: Submission = await self.opening.ask("submit", asked, path)
        return found

    async def decide(self, asked: schemas.DecideGate) -> int:
        """Judge stored scores and store the decision; return the gate's id."""
        found: int = await self.deciding.ask("decide", asked)
        return found

    async def protect(self, alias: str, asked: schemas.Protect, by: str) -> None:
        """Check a policy against its suite, and pin it to an alias."""
        await self.deciding.ask("protect", alias, asked, by)

    def warm(self) -> None:
        """Start a process of each kind now, so that the first request does not wait for its imports."""
        for crew in (self.opening, self.deciding):
            crew.processes[0].start()

    def close(self) -> None:
        """Stop all processes."""
        for crew in (self.opening, self.deciding):
            for process in crew.processes:
                process.end()
