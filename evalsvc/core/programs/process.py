"""One process in namespaces, as its host sees it: lines in, lines out, up to a deadline."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from evalsvc.core.errors import IncompatibleWorkerError
from evalsvc.core.sandbox import restrictions

LONGEST_OUTPUT = 2**23
"""Most bytes of a line, and of the output of a script."""
WRITTEN = 2**24
"""Most bytes in files."""
SECONDS_TO_START = 60
_START = (
    "import sys; sys.path.append(sys.argv[1]); from evalsvc.core.programs.child import main; sys.path.pop(); main()"
)


class NamespacesError(IncompatibleWorkerError):
    """This machine does not allow the namespaces in which programs run."""


def _refused(reason: str) -> NamespacesError:
    return NamespacesError(
        f"programs of models run in Linux namespaces only, and this machine does not allow them ({reason}): allow user "
        "namespaces, or use another machine"
    )


def refusal() -> str:
    """The reason for which this machine runs no programs; "" if it does."""
    try:
        with Process("script", {"sources": [""]}, 2**28, 1) as trial:
            trial.start()
    except NamespacesError as error:
        return str(error)
    return ""


class _Starter:
    """A process that has Python ready, and forks a child for each program: a start takes a third of the time."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair()
        environment = {name: value for name, value in restrictions.environment().items() if name != "PYTHONPATH"}
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-S", "-P", "-B", "-X", "utf8", "-c", _START, str(Path(__file__).parents[3])],
                env=environment | {"PYTHONHASHSEED": "0"},  # sets have one order
                stdin=other.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._lock = threading.Lock()

    def start(self, requests: int, replies: int) -> int:
        """Start a child that reads and writes these descriptors; return a descriptor of its process."""
        started: list[int] = []
        with self._lock, suppress(OSError):
            socket.send_fds(self._socket, [b"1"], [requests, replies])
            _, started, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not started:
            _starter.cache_clear()
            raise _refused("the process that starts programs ended")
        return started[0]


@cache
def _starter(process: int) -> _Starter:
    """The starter of this process: a copy made by fork has its own."""
    return _Starter()


class Process:
    """A process that runs one task (of :mod:`evalsvc.core.programs.child`) in namespaces; close it."""

    def __init__(self, role: str, task: Mapping[str, Any], memory: int, seconds: int) -> None:
        if sys.platform != "linux":
            raise _refused(f"there are none on {sys.platform}")
        given, self._requests = os.pipe()
        self._replies, returned = os.pipe()
        self._open = {self._requests, self._replies}
        os.set_blocking(self._requests, False)
        try:
            self._process = _starter(os.getpid()).start(given, returned)
        except NamespacesError:
            self._close(*self._open)
            raise
        finally:
            os.close(given)
            os.close(returned)
        self._open.add(self._process)
        self._waiting = bytearray()
        limits = {"role": role, "memory": memory, "seconds": seconds, "written": WRITTEN}
        self._task = json.dumps({**task, **limits}).encode()

    def start(self) -> None:
        """Wait until the process is isolated.

        Raises:
            NamespacesError: it cannot be.
        """
        line = self.exchange(self._task, time.monotonic() + SECONDS_TO_START)
        said = json.loads(line) if line else {"refused": "it did not start"}
        if said != "ready":
            raise _refused(said["refused"])

    def exchange(self, line: bytes, deadline: float) -> bytes | None:
        """The line with which the process responds to a line; None if there is none in time."""
        self._waiting.clear()
        self._transfer(line + b"\n", deadline, whole=False)
        response, end, self._waiting = self._waiting.partition(b"\n")
        return bytes(response) if end else None

    def output(self, given: bytes, deadline: float) -> bytes | None:
        """Give the process an input, and return its output until its end; None if it does not end in time."""
        return bytes(self._waiting) if self._transfer(given, deadline, whole=True) else None

    def _transfer(self, given: bytes, deadline: float, whole: bool) -> bool:
        """Write and read at once until a line is there, or the end; whether the process ended."""
        rest = memoryview(given)
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        poll.register(self._requests, select.POLLOUT)
        while (left := deadline - time.monotonic()) > 0 and len(self._waiting) <= LONGEST_OUTPUT:
            for descriptor, _ in poll.poll(left * 1000):
                if descriptor == self._replies:
                    chunk = os.read(self._replies, 2**16)
                    self._waiting += chunk
                    if not chunk or (b"\n" in chunk and not whole):
                        return not chunk
                else:
                    rest = self._written(rest)
                    if not rest:
                        poll.unregister(self._requests)
                        if whole:
                            self._close(self._requests)
        return False

    def _written(self, rest: memoryview) -> memoryview:
        try:
            return rest[os.write(self._requests, rest) :]
        except BlockingIOError:
            return rest
        except BrokenPipeError:
            return rest[:0]

    def close(self) -> None:
        """End the process, and all in its namespaces with it."""
        if self._process in self._open:
            ended = select.poll()
            ended.register(self._process, select.POLLIN)
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            ended.poll()
        self._close(*self._open)

    def _close(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            self._open.remove(descriptor)
            os.close(descriptor)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
