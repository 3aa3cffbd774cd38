"""A child process that does one task after the other, each within a number of seconds, and is replaced when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

LARGEST = 4 * 2**30
"""Bytes of memory with which a process that has done its task is not kept."""


class BoundedProcess:
    """``python -m MODULE SOCKET ARGUMENT...``, started with its first task. One thread's at a time."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        self._command = [sys.executable, "-m", module]
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._pipe: Connection | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Of the process, while one is there."""
        return self._process.pid if self._process else None

    def start(self) -> Connection:
        """The way to the process, which is started where it is not there, or has ended between two tasks."""
        with self._lock:
            if self._process is not None and self._process.poll() is not None:
                self._end()
            if self._pipe is None:
                # Its own program: a fork would copy the locks of threads, and a spawn import the server's main module.
                self._socket, other = socket.socketpair()
                self._pipe = Connection(os.dup(self._socket.fileno()))
                with other:
                    self._process = subprocess.Popen(
                        [*self._command, str(other.fileno()), *self._arguments],
                        stdin=subprocess.DEVNULL,
                        pass_fds=[other.fileno()],
                        start_new_session=True,
                    )
            return self._pipe

    def ask(self, seconds: float, message: Any) -> Any:
        """What the process answers.

        Raises:
            TimeoutError: it took longer, and was ended with all that it had started.
            EOFError: the process ended.
        """
        pipe, state, guard = self.start(), "asked", threading.Lock()

        def expire() -> None:
            nonlocal state
            with guard:
                if state == "asked":
                    state = "expired"
                    self._kill()

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            pipe.send(message)
            answer = pipe.recv()
            with guard:  # from here on nothing kills the process that the next task gets
                if state == "asked":
                    state = "answered"
        except (EOFError, OSError, UnpicklingError):
            self.end()
            if state == "expired":
                raise TimeoutError(f"this took more than {seconds:g} seconds") from None
            raise EOFError("the process ended") from None
        finally:
            timer.cancel()
        if state == "expired" or self._resident() > LARGEST:
            self.end()
        return answer

    def end(self) -> None:
        """End the process and its process group."""
        self._kill()
        with self._lock:
            self._end()

    def _kill(self) -> None:
        process, ours = self._process, self._socket
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        if ours is not None:
            with suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)  # wakes who waits, whoever else may hold the other end

    def _end(self) -> None:
        if self._process is not None and self._pipe is not None and self._socket is not None:
            self._pipe.close()
            self._socket.close()
            self._process.wait()
        self._process = self._pipe = self._socket = None

    def _resident(self) -> int:
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):  # not Linux, or it has just ended
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")
