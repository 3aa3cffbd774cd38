"""A child process that runs one task at a time with a time limit, and is replaced when it exits."""

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
"""Bytes of memory above which a process is not reused after its task."""


class BoundedProcess:
    """``python -m MODULE SOCKET ARGUMENT...``, started with its first task. Not thread-safe."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        self._command = [sys.executable, "-P", "-m", module]
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._pipe: Connection | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The id of the process, if it is running."""
        return self._process.pid if self._process else None

    def start(self) -> Connection:
        """The connection to the process, which is started if it is not running."""
        with self._lock:
            if self._process is not None and self._process.poll() is not None:
                self._end()
            if self._pipe is None:
                # A new program: a fork would copy locks of threads, and a spawn would import the server's main module.
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
        """Run a task and return the answer of the process.

        Raises:
            TimeoutError: the task exceeded its time limit; the process and its children were killed.
            EOFError: the process exited.
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
            with guard:  # from here on the timer cannot kill the process of the next task
                if state == "asked":
                    state = "answered"
        except (EOFError, OSError, UnpicklingError):
            self.end()
            if state == "expired":
                raise TimeoutError(f"this took more than {seconds:g} seconds") from None
            raise EOFError("the process exited") from None
        finally:
            timer.cancel()
        if state == "expired" or self._resident() > LARGEST:
            self.end()
        return answer

    def end(self) -> None:
        """Kill the process and its process group."""
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
                ours.shutdown(socket.SHUT_RDWR)  # wakes the reader even if another process holds the other end

    def _end(self) -> None:
        if self._process is not None and self._pipe is not None and self._socket is not None:
            self._pipe.close()
            self._socket.close()
            self._process.wait()
        self._process = self._pipe = self._socket = None

    def _resident(self) -> int:
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):  # not Linux, or the process has just exited
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")
