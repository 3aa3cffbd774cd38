"""What keeps a worker process honest: it says that it lives, learns that it was given up, and never hangs for ever."""

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

GIVEN_UP = 75
"""Exit code of a process that ends itself because it was given up, hangs, or is past a deadline."""

log = logging.getLogger(__name__)


@dataclass
class Task:
    """What a slot is at. ``stirred`` is when it last finished a batch, by this process's own clock."""

    attempt: Attempt
    stage: str
    limit: float | None
    done: int = 0
    begun: float = field(default_factory=time.monotonic)
    last_progress_at: float = field(default_factory=time.monotonic)

    def advance(self, done: int) -> None:
        """So many more samples or items are done."""
        self.done += done
        self.last_progress_at = time.monotonic()


class Heartbeat:
    """Beats in a thread of its own, over a connection of its own that gives up soon.

    Nothing here calls the queue's engine, which waits for a lost database without limit.
    """

    def __init__(self, settings: Settings, worker: str, role: worker_registry.Role, device: str, parent: int) -> None:
        self.worker = worker
        self.task: Task | None = None
        self._settings = settings
        self._database = Database(settings.database, patience=min(5, settings.dead_after / 2))
        self._parent = parent  # as it was when this process was started, since it may have died before now
        # The last words of others may be from before an outage, so that whoever is new judges nobody at first.
        self._judges_from = time.monotonic() + settings.dead_after
        worker_registry.register(self._database, worker, role, device)

    def start(self) -> None:
        """Beat until the process ends; which it does here, before it takes any work, if its supervisor is gone."""
        self._watch()
        threading.Thread(target=self._run, name="heart", daemon=True).start()

    @property
    def may_judge(self) -> bool:
        """Whether this process saw the database for long enough to say who was silent."""
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
            # Before its next write: it would leave out what the new tables ask for, and read what it does not know.
            self._exit(f"the database is at revision {found} and this evalsvc works at {HEAD}: run one version of both")
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
            # At once: whoever starts the supervisor again starts another process on this device.
            with suppress(SQLAlchemyError, StorageError):
                worker_registry.end(self._database, self.worker, WorkerStatus.STOPPED)
            self._exit("its supervisor is gone")
        if task is None:
            return
        if task.limit is not None and now - task.begun > task.limit:
            reason = f"{task.stage} took longer than the {task.limit:g} s that it was given"
            with suppress(SQLAlchemyError, StorageError):
                attempts.fail(self._database, task.attempt, Failure.TIMEOUT, reason)
            self._exit(reason)
        if now - task.last_progress_at > self._settings.stall_after:
            self._exit(f"{task.stage} of evaluation {task.attempt.evaluation} finished no batch for too long")

    def _exit(self, reason: str) -> None:
        log.error("worker %s ends itself: %s", self.worker, reason)
        os._exit(GIVEN_UP)
