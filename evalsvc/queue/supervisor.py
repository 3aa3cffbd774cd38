"""``evalsvc worker``: a supervisor, and the processes it keeps alive: one a slot, and one coordinator."""

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

from evalsvc.core.errors import EvalsvcError, StorageError
from evalsvc.core.observability import telemetry, tracing
from evalsvc.core.settings import Settings
from evalsvc.queue import worker_registry
from evalsvc.queue.worker_metrics import WorkerMetrics, count_in
from evalsvc.store import audit
from evalsvc.store.session import Database, retry_until_available
from evalsvc.store.tables import ActorKind, WorkerStatus

LOOK = 0.2
"""Seconds between the supervisor's looks at its processes."""

LONGEST_PAUSE = 60.0
"""Seconds before a restart of a process that dies again and again."""

WELL = 15.0
"""Seconds after which a process counts as having started well, and its next restart comes at once."""

WRONG_USE = 2
"""Exit code of a process that no restart would help."""

P = ParamSpec("P")
log = logging.getLogger("evalsvc.queue.supervisor")  # which runs as __main__


class Duty(BaseModel):
    """What a process is to be. It travels on the command line. ``metrics`` is where it counts, in a file of its
    ``place``.
    """

    model_config = ConfigDict(frozen=True)

    role: worker_registry.Role
    device: str = ""
    batch_size: int = 250
    plugins: tuple[Path, ...] = ()
    threads: int | None = None
    metrics: Path | None = None
    place: str = ""
    supervisor: int = Field(default_factory=os.getpid)


# --- the supervisor ---


@dataclass
class _Child:
    duty: Duty
    name: str = ""
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 0.0
    due: float = 0.0

    def start(self) -> None:
        self.name, self.started = worker_registry.new_name(), time.monotonic()
        command = [sys.executable, "-m", "evalsvc.queue.supervisor", self.name, self.duty.model_dump_json()]
        # A group of its own: Ctrl-C is for the supervisor, which lets its processes finish what they are at.
        self.process = subprocess.Popen(command, process_group=0)

    def ended(self) -> int | None:
        """The exit code, once, when the process has ended; a restart is then due after a pause that grows."""
        code = self.process.poll() if self.process else None
        if code is not None:
            self.process = None
            lived = time.monotonic() - self.started
            self.pause = 0.5 if lived > WELL else min(LONGEST_PAUSE, max(0.5, 2 * self.pause))
            self.due = time.monotonic() + self.pause
        return code


def supervise(settings: Settings, duties: Sequence[Duty]) -> int:
    """Keep one process for each duty until SIGTERM or SIGINT; a second one does not wait for the work in hand.

    Returns the exit code: 0, or 2 where a process said that its settings are wrong.
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
                if ended == WRONG_USE:
                    code, asked = WRONG_USE, max(asked, 1)
                elif ended:
                    log.warning("%s %s ended with %d", child.duty.role, child.name, ended)
        dead = _report_lost(database, dead)
        if asked > told:
            told = asked
            log.info("finishing the work in hand" if asked == 1 else "stopping at once")
            for child in children:
                if child.process:
                    child.process.send_signal(signal.SIGTERM if asked == 1 else signal.SIGKILL)
        time.sleep(LOOK)
    _report_lost(database, dead)
    return code


def _report_lost(database: Database, dead: set[str]) -> set[str]:
    """Tell the others who is dead, so that nobody waits for a silence; those that could not be told of yet."""
    try:
        while dead:
            name = dead.pop()
            worker_registry.end(database, name, WorkerStatus.LOST)
    except (SQLAlchemyError, StorageError):
        dead.add(name)
    return dead


# --- one process ---


def main(name: str, duty: Duty) -> None:
    """Be a slot or the coordinator until SIGTERM."""
    # No event: a second signal inside its set(), or one inside its wait(), would wait for the lock that it is under.
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
        _be_slot(settings, name, duty, asked, metrics)
    else:
        _be_coordinator(settings, name, duty, asked, metrics)


def _be_slot(settings: Settings, name: str, duty: Duty, asked: SimpleQueue[None], metrics: WorkerMetrics) -> None:
    import torch

    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.plugins.registry import Plugins
    from evalsvc.queue import dbos_engine
    from evalsvc.queue.heartbeat import Heartbeat
    from evalsvc.queue.slot import Slot

    if duty.threads:
        torch.set_num_threads(duty.threads)
    context = EvaluationContext(settings, Plugins(duty.plugins), duty.device, duty.batch_size)
    heartbeat = Heartbeat(settings, name, "slot", str(context.device), duty.supervisor)
    heartbeat.start()
    dbos_engine.launch(settings.database, name, "slot", Slot(context, heartbeat, metrics))
    _in_background(_end_if_forgetful, settings, name)
    log.info("slot %s on %s takes work", name, context.device)
    asked.get()
    retry_until_available(worker_registry.end, context.database, name, WorkerStatus.DRAINING)
    dbos_engine.drain()
    retry_until_available(worker_registry.end, context.database, name, WorkerStatus.STOPPED)
    tracing.flush()
    os._exit(0)


def _be_coordinator(
    settings: Settings, name: str, duty: Duty, asked: SimpleQueue[None], metrics: WorkerMetrics
) -> None:
    from evalsvc.queue import dbos_engine
    from evalsvc.queue.coordinator import Coordinator
    from evalsvc.queue.heartbeat import Heartbeat

    heartbeat = Heartbeat(settings, name, "coordinator", "", duty.supervisor)
    heartbeat.start()
    coordinator = Coordinator(settings, heartbeat, metrics)
    dbos_engine.launch(settings.database, name, "coordinator", coordinator)
    _in_background(coordinator.run)
    _in_background(_end_if_forgetful, settings, name)
    asked.get()
    # What it waits for, another coordinator can wait for: nothing has to be finished here.
    worker_registry.end(Database(settings.database), name, WorkerStatus.STOPPED)
    os._exit(0)


def _end_if_forgetful(settings: Settings, name: str) -> None:
    """End the process when it has claimed work that it does not do, twice in a row: others then take it over."""
    from evalsvc.queue import dbos_engine
    from evalsvc.queue.heartbeat import GIVEN_UP

    before: set[str] = set()
    while True:
        time.sleep(settings.dead_after / 2)
        try:
            now = dbos_engine.forgotten(name)
        except SQLAlchemyError:
            continue
        if lost := now & before:
            log.error("worker %s ends itself: it lost hold of %s", name, ", ".join(sorted(lost)))
            os._exit(GIVEN_UP)
        before = now


def _in_background(run: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """A thread without which the process is worth nothing: its end, for whatever reason, is the end of both."""

    def guarded() -> None:
        try:
            run(*args, **kwargs)
        except BaseException:
            log.exception("a thread has ended, and the process ends with it")
        os._exit(1)

    threading.Thread(target=guarded, daemon=True).start()


if __name__ == "__main__":
    try:
        telemetry.begin(Settings())
        main(sys.argv[1], Duty.model_validate_json(sys.argv[2]))
    except EvalsvcError as error:
        log.error("%s", error)
        # A database that is away comes back, and the supervisor, which had it when it began, starts another process.
        os._exit(1 if isinstance(error, StorageError) else WRONG_USE)
