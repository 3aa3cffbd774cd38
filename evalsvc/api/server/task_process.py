"""Child processes that open checkpoints and judge gates, so that the server itself loads neither weights nor torch.

Each does one task at a time, and each kind of task has processes of its own: a checkpoint that opens slowly keeps no
gate waiting, and no token has more than half of them. A task that takes too long, or takes its process with it, costs
that process and no more.
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
"""For one task, after a wait of half of it; digesting a large checkpoint takes most of it."""
WAITING = 16
"""More tasks than this of one token are sent away to come again."""


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
        """The result of a task for the token that asks; what is wrong with its request is raised here."""
        actor = audit.current()
        async with self.shares.turn(actor.token, self.seconds / 2):
            process = self._idle.pop()  # the one that worked last, so that one nobody needs is never started
            try:
                message = task, arguments, actor
                error, result = await anyio.to_thread.run_sync(
                    process.ask, self.seconds, message, limiter=self._threads
                )
            except TimeoutError as expired:
                detail = f"{expired} and was ended"
                raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"retry-after": "60"}) from None
            except EOFError:
                raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, self._crash) from None
            finally:
                self._idle.append(process)
        if error is not None:
            raise error
        return result


class TaskProcesses:
    """The processes and the way to them."""

    def __init__(
        self, plugins: tuple[Path, ...] = (), opening: int = 2, deciding: int = 2, seconds: float = SECONDS
    ) -> None:
        crash = "loading this checkpoint crashed the loader process"
        self.opening = Crew("checkpoints being opened", crash, plugins, opening, seconds)
        crash = "deciding this gate crashed the process that decides"
        self.deciding = Crew("gates being decided", crash, plugins, deciding, seconds)

    async def submit(self, asked: schemas.EvaluationCreate, path: Path | None) -> Submission:
        """Open all that an evaluation needs, and put it on the queue; ``path`` is the checkpoint, if it is none known.

        What is wrong with the request is raised here.
        """
        found: Submission = await self.opening.ask("submit", asked, path)
        return found

    async def decide(self, asked: schemas.DecideGate) -> int:
        """Judge what is stored and store the decision; the gate's id."""
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
        """End all processes."""
        for crew in (self.opening, self.deciding):
            for process in crew.processes:
                process.end()
