"""``evalsvc worker``: a supervisor and the processes that it keeps alive, one per slot and one coordinator."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import ParamSpec

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError

from evalsvc.core.cards import Card
from evalsvc.core.errors import EvalsvcError, StorageError
from evalsvc.core.observability import telemetry, tracing
from evalsvc.core.settings import Settings
from evalsvc.queue import worker_registry
from evalsvc.queue.worker_metrics import WorkerMetrics, count_in
from evalsvc.store import audit
from evalsvc.store.session import Database, retry_until_available
from evalsvc.store.tables import ActorKind, WorkerStatus

CHECK_SECONDS = 0.2
"""Seconds between the supervisor's checks of its processes."""

MAX_RESTART_DELAY = 60.0
"""Longest delay in seconds before a crashing process is restarted."""

STABLE_SECONDS = 15.0
"""A process that runs for this many seconds has started well, and its next restart has no delay."""

EXIT_USAGE = 2
"""Exit code of a process that a restart would not help."""

P = ParamSpec("P")
MODULE = "evalsvc.queue.supervisor"  # which runs as __main__
log = logging.getLogger(MODULE)


class ProcessRole(BaseModel):
    """The role of a process, passed on the command line. ``metrics`` is the folder in which it counts, in a file named
    after its ``place``.
    """

    model_config = ConfigDict(frozen=True)

    role: worker_registry.Role
    card: Card = Card()
    batch_size: int = 250
    plugins: tuple[Path, ...] = ()
    metrics: Path | None = None
    place: str = ""
    supervisor: int = Field(default_factory=os.getpid)


# --- the supervisor ---


@dataclass
class _Child:
    duty: ProcessRole
    name: str = ""
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 0.0
    due: float = 0.0

    def start(self) -> None:
        self.name, self.started = worker_registry.new_name(), time.monotonic()
        command = [sys.executable, "-P", "-m", MODULE, self.name, self.duty.model_dump_json()]
        # A process group of its own: Ctrl-C goes to the supervisor, which lets its processes finish their work.
        self.process = subprocess.Popen(command, env=os.environ | self.duty.card.variables, process_group=0)

    def ended(self) -> int | None:
        """The exit code, once, when the process has ended; a restart is then due after a growing delay."""
        code = self.process.poll() if self.process else None
        if code is not None:
            self.process = None
            lived = time.monotonic() - self.started
            self.pause = 0.5 if lived > STABLE_SECONDS else min(MAX_RESTART_DELAY, max(0.5, 2 * self.pause))
            self.due = time.monotonic() + self.pause
        return code


def supervise(settings: Settings, duties: Sequence[ProcessRole]) -> int:
    """Keep one process for each duty alive until SIGTERM or SIGINT; a second signal stops without waiting for current
    work.

    Returns the exit code: 0, or 2 if a process reported invalid settings.
    """
    database = Database(settings.database)
    children = [_Child(duty) for duty in duties]
    asked = 0

    def stop(_signal: int, _frame: object) -> None:
        nonlocal asked
        asked += 1

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    dead: set[str] = set()
    code = told = 0
    while not asked or any(child.process for child in children):
        for child in children:
            if child.process is None and not asked and time.monotonic() >= child.due:
                child.start()
            ended = child.ended()
            if ended is not None:
                dead.add(child.name)
                if ended == EXIT_USAGE:
                    code, asked = EXIT_USAGE, max(asked, 1)
                elif ended:
                    log.warning("%s %s exited with code %d", child.duty.role, child.name, ended)
        dead = _report_lost(database, dead)
        if asked > told:
            told = asked
            log.info("finishing the current work" if asked == 1 else "stopping immediately")
            for child in children:
                if child.process:
                    child.process.send_signal(signal.SIGTERM if asked == 1 else signal.SIGKILL)
        time.sleep(CHECK_SECONDS)
    _report_lost(database, dead)
    return code


def _report_lost(database: Database, dead: set[str]) -> set[str]:
    """Record which processes are lost, so that others need not wait for their deadlines; return those that could not be
    recorded yet.
    """
    try:
        while dead:
            name = dead.pop()
            worker_registry.end(database, name, WorkerStatus.LOST)
    except (SQLAlchemyError, StorageError):
        dead.add(name)
    return dead


# --- one process ---


def main(name: str, duty: ProcessRole) -> None:
    """Run as a slot or as the coordinator until SIGTERM."""
    # Not an Event: a second signal during its set() or wait() would deadlock on the lock that is already held.
    asked = SimpleQueue[None]()
    signal.signal(signal.SIGTERM, lambda *_: asked.put(None))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = Settings()
    if duty.metrics:
        count_in(duty.metrics, duty.place)
    audit.act_as(audit.Actor(ActorKind.WORKER, name))
    metrics = WorkerMetrics()
    metrics.started(duty.role)
    if duty.role == "slot":
        _run_slot(settings, name, duty, asked, metrics)
    else:
        _run_coordinator(settings, name, duty, asked, metrics)


def _run_slot(
    settings: Settings, name: str, duty: ProcessRole, asked: SimpleQueue[None], metrics: WorkerMetrics
) -> None:
    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.plugins.registry import Plugins
    from evalsvc.queue import dbos_engine
    from evalsvc.queue.heartbeat import Heartbeat
    from evalsvc.queue.slot import Slot

    context = EvaluationContext(settings, Plugins(duty.plugins), duty.card, duty.batch_size)
    heartbeat = Heartbeat(settings, name, "slot", context.device_name, duty.supervisor)
    heartbeat.start()
    dbos_engine.launch(settings.database, name, "slot", Slot(context, heartbeat, metrics))
    _run_daemon_thread(_exit_if_claims_abandoned, settings, name)
    log.info("slot %s on %s is ready", name, context.device_name)
    asked.get()
    retry_until_available(worker_registry.end, context.database, name, WorkerStatus.DRAINING)
    dbos_engine.drain()
    retry_until_available(worker_registry.end, context.database, name, WorkerStatus.STOPPED)
    tracing.flush()
    os._exit(0)


def _run_coordinator(
    settings: Settings, name: str, duty: ProcessRole, asked: SimpleQueue[None], metrics: WorkerMetrics
) -> None:
    from evalsvc.queue import dbos_engine
    from evalsvc.queue.coordinator import Coordinator
    from evalsvc.queue.heartbeat import Heartbeat

    heartbeat = Heartbeat(settings, name, "coordinator", "", duty.supervisor)
    heartbeat.start()
    coordinator = Coordinator(settings, heartbeat, metrics)
    dbos_engine.launch(settings.database, name, "coordinator", coordinator)
    _run_daemon_thread(coordinator.run)
    _run_daemon_thread(_exit_if_claims_abandoned, settings, name)
    asked.get()
    # Another coordinator can wait for its workflows: nothing has to be finished here.
    worker_registry.end(Database(settings.database), name, WorkerStatus.STOPPED)
    os._exit(0)


def _exit_if_claims_abandoned(settings: Settings, name: str) -> None:
    """Exit if this process has claimed work that it does not run, twice in a row; others then take it over."""
    from evalsvc.queue import dbos_engine
    from evalsvc.queue.heartbeat import EXIT_GIVEN_UP

    before: set[str] = set()
    while True:
        time.sleep(settings.dead_after / 2)
        try:
            now = dbos_engine.abandoned_claims(name)
        except SQLAlchemyError:
            continue
        if lost := now & before:
            log.error("worker %s exits: it does not run the work that it claimed (%s)", name, ", ".join(sorted(lost)))
            os._exit(EXIT_GIVEN_UP)
        before = now


def _run_daemon_thread(run: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Run in a daemon thread; exit the process when it ends for any reason."""

    def guarded() -> None:
        try:
            run(*args, **kwargs)
        except BaseException:
            log.exception("a required thread ended; the process exits")
        os._exit(1)

    threading.Thread(target=guarded, daemon=True).start()


if __name__ == "__main__":
    try:
        telemetry.begin(Settings())
        main(sys.argv[1], ProcessRole.model_validate_json(sys.argv[2]))
    except EvalsvcError as error:
        log.error("%s", error)
        # A database that worked at the start will come back, and the supervisor restarts this process.
        os._exit(1 if isinstance(error, StorageError) else EXIT_USAGE)
