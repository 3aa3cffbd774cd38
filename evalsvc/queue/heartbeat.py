"""Heartbeats of a worker process: report that it is alive, exit if it was declared lost, and enforce time limits."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from evalsvc.core.errors import StorageError, first_line
from evalsvc.core.settings import Settings
from evalsvc.evaluation import attempts
from evalsvc.evaluation.attempts import Attempt
from evalsvc.queue import worker_registry
from evalsvc.store.session import HEAD, Database
from evalsvc.store.tables import Failure, WorkerStatus

EXIT_GIVEN_UP = 75
"""Exit code of a process that exits because it was declared lost, hangs, or exceeded a time limit."""

log = logging.getLogger(__name__)


@dataclass
class Task:
    """The current work of a slot. ``last_progress_at`` is when it last finished a batch, by the clock
    of this process.
    """

    attempt: Attempt
    stage: str
    limit: float | None
    done: int = 0
    begun: float = field(default_factory=time.monotonic)
    last_progress_at: float = field(default_factory=time.monotonic)

    def advance(self, done: int) -> None:
        """Record that further samples or items are done."""
        self.done += done
        self.last_progress_at = time.monotonic()


class Heartbeat:
    """Send heartbeats from a thread of its own, over a connection of its own with a short timeout.

    This module never calls the queue's engine, which waits for a lost database without limit.
    """

    def __init__(self, settings: Settings, worker: str, role: worker_registry.Role, device: str, parent: int) -> None:
        self.worker = worker
        self.task: Task | None = None
        self._settings = settings
        self._database = Database(settings.database, patience=min(5, settings.dead_after / 2))
        self._parent = parent  # the parent at the start of this process, which may have died before now
        # Heartbeats of other workers may date from before an outage, so a new process judges no worker at first.
        self._judges_from = time.monotonic() + settings.dead_after
        worker_registry.register(self._database, worker, role, device)

    def start(self) -> None:
        """Send heartbeats until the process ends; exit before taking any work if the supervisor is gone."""
        self._watch()
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    @property
    def may_declare_lost(self) -> bool:
        """Whether this process has been connected long enough to declare others lost."""
        return time.monotonic() >= self._judges_from

    def _run(self) -> None:
        while True:
            time.sleep(self._settings.heartbeat)
            try:
                self._beat()
            except (SQLAlchemyError, StorageError) as error:
                log.warning("heartbeat: %s", first_line(error))
            self._watch()

    def _beat(self) -> None:
        if (found := self._database.revision()) != HEAD:
            # Before the next write, which would omit columns that the new tables require.
            self._exit(
                f"the database is at revision {found} but this evalsvc needs {HEAD}: run the same version everywhere"
            )
        task = self.task
        at = (task.attempt.evaluation, task.stage, task.done) if task else ()
        silent = worker_registry.beat(self._database, self.worker, *at)
        if silent is None:
            self._exit("it missed its heartbeat deadline; its work was reassigned")
        elif silent > self._settings.dead_after / 2:
            self._judges_from = time.monotonic() + self._settings.dead_after

    def _watch(self) -> None:
        now, task = time.monotonic(), self.task
        if os.getppid() != self._parent:
            # At once: a restarted supervisor starts another process on this device.
            with suppress(SQLAlchemyError, StorageError):
                worker_registry.end(self._database, self.worker, WorkerStatus.STOPPED)
            self._exit("its supervisor exited")
        if task is None:
            return
        if task.limit is not None and now - task.begun > task.limit:
            reason = f"{task.stage} exceeded its limit of {task.limit:g} s"
            with suppress(SQLAlchemyError, StorageError):
                attempts.fail(self._database, task.attempt, Failure.TIMEOUT, reason)
            self._exit(reason)
        if now - task.last_progress_at > self._settings.stall_after:
            self._exit(f"{task.stage} of evaluation {task.attempt.evaluation} made no progress for too long")

    def _exit(self, reason: str) -> None:
        log.error("worker %s exits: %s", self.worker, reason)
        os._exit(EXIT_GIVEN_UP)
