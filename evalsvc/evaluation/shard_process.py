"""A process that computes shards on a card of its own for the evaluations of this process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from evalsvc.core.cards import Card
from evalsvc.core.cost import Cost
from evalsvc.core.errors import StorageError
from evalsvc.evaluation.context import Advance, silent
from evalsvc.evaluation.shards import Shard
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.store.tables import Failure

MODULE = "evalsvc.evaluation.shard_process_main"
STDERR = 2
"""Where the process prints: standard output holds the results of a command."""
LAST_SECONDS = 5
"""Longest time in which an interrupted process ends what its plug-ins have started, and exits."""


class ShardProcessRole(BaseModel):
    """Card, batch size and plug-in files of the process."""

    model_config = ConfigDict(frozen=True)

    card: Card
    batch_size: int
    plugins: tuple[Path, ...]


class Running(NamedTuple):
    """A process and the pipe to it."""

    process: subprocess.Popen[bytes]
    pipe: Connection


Request = tuple[str, Shard, bool]
"""A spec as JSON, one of its shards, and whether files that exist are computed again."""
Answer = int | Cost | tuple[Exception, Failure] | None
"""Further finished samples; or the end of a shard: its cost, ``None`` if its files exist, or an error and its class.
Before the first request, ``None`` says that the device is open.
"""


class ShardProcess:
    """A process on another device. Not thread-safe, except for :meth:`end`."""

    def __init__(self, role: ShardProcessRole) -> None:
        self._role = role
        self._running: Running | None = None
        self._opened = False

    def start(self) -> None:
        """Start the process unless it runs, without waiting for it."""
        if self._running is None:
            self._running, self._opened = self._start(), False

    def open(self) -> None:
        """Start the process unless it runs, and wait until it has opened its device.

        Raises:
            InputError: the device cannot be used.
            StorageError: the process was killed.
        """
        self.start()
        if not self._opened:
            self._ask(None, silent("", 0), "at its start")
            self._opened = True

    def compute(self, spec: EvaluationSpec, shard: Shard, advance: Advance, *, rerun: bool) -> Cost | None:
        """Compute a shard and write its files, as :func:`evalsvc.evaluation.shard_computation.compute_shard` does.

        Raises:
            StorageError: the process was killed.
            Exception: the error that the computation raised there, or that ``advance`` raised here.
        """
        self.open()
        request = spec.model_dump_json(), shard, rerun
        return self._ask(request, advance, f"in {shard.kind} {shard.start}-{shard.stop}")

    def end(self) -> None:
        """End the process, if it runs; a :meth:`compute` in another thread raises. The next shard starts another."""
        running, self._running = self._running, None
        if running:
            if self._opened:
                running.process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    running.process.wait(LAST_SECONDS)
            running.process.kill()
            running.process.wait()

    def _start(self) -> Running:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno()), self._role.model_dump_json()],
                env=os.environ | self._role.card.variables,
                stdin=subprocess.DEVNULL,
                stdout=STDERR,
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C goes to the parent, which ends this process
            )
            return Running(process, Connection(os.dup(ours.fileno())))

    def _ask(self, request: Request | None, advance: Advance, when: str) -> Cost | None:
        running = self._running
        try:
            if running is None:  # another thread has ended it
                raise EOFError
            if request:
                running.pipe.send(request)
            answer = _receive(running)
            while isinstance(answer, int):
                advance(answer)
                answer = _receive(running)
        except (EOFError, ConnectionError):
            death = _death(running) if running else "was ended"
            self.end()
            raise StorageError(
                f"the process on {self._role.card.name} {death} {when}: run the same command again to continue"
            ) from None
        except BaseException:
            self.end()
            raise
        if isinstance(answer, tuple):
            error, failure = answer
            raise error from _cause(failure)
        return answer


def _receive(running: Running) -> Answer:
    """The next answer. Children of a killed process may hold its end of the pipe open."""
    while not running.pipe.poll(1):
        if running.process.poll() is not None and not running.pipe.poll():
            raise EOFError
    answer: Answer = running.pipe.recv()
    return answer


def _death(running: Running) -> str:
    """How a process ended that has closed its pipe, which it does before it exits."""
    try:
        code = running.process.wait(LAST_SECONDS)
    except subprocess.TimeoutExpired:
        return "closed its pipe"
    names = {each.value: each.name for each in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}" if code < 0 else f"exited with code {code}"


@contextmanager
def shard_processes(
    cards: Sequence[Card], plugins: Sequence[Path], batch_size: int
) -> Iterator[tuple[ShardProcess, ...]]:
    """A process for each card, which opens it in the meantime; they end at the end."""
    files = tuple(file.resolve() for file in plugins)
    processes = tuple(ShardProcess(ShardProcessRole(card=card, batch_size=batch_size, plugins=files)) for card in cards)
    try:
        for process in processes:
            process.start()
        yield processes
    finally:
        for process in processes:
            process.end()


def _cause(failure: Failure) -> Exception | None:
    """A cause in place of the one that stayed in the process, which gives an error its class of failure."""
    return {Failure.OUT_OF_MEMORY: MemoryError(), Failure.TIMEOUT: TimeoutError()}.get(failure)
