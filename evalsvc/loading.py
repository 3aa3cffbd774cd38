"""Tensors of torch files nobody vouches for, read by a confined process: see ``docs/design/loading.md``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from evalsvc import confinement
from evalsvc.errors import CheckpointError
from evalsvc.state_dicts import StateDicts

SECONDS, BYTES_A_SECOND = 60, 20_000_000
"""Time for any file, and the slowest disk."""


def read_tensors(path: Path) -> StateDicts:
    """All tensors of a torch file, on the CPU.

    Raises:
        CheckpointError: it holds more than tensors, is not a torch file, or takes more memory or time than it may.
    """
    with path.open("rb") as source, _nameless() as target:
        seconds = SECONDS + path.stat().st_size // BYTES_A_SECOND
        wrong = _reader.ask({"seconds": seconds}, source.fileno(), target.fileno())
        try:
            if not wrong:
                with safe_open(f"/dev/fd/{target.fileno()}", framework="pt") as file:
                    return _state_dicts(file)
        except (SafetensorError, OSError, ValueError) as error:
            wrong = f"was read to something that is no set of tensors ({error})"
    raise CheckpointError(f"checkpoint {path} {wrong}")


def _state_dicts(file: Any) -> StateDicts:
    """The tensors as the reader named them, by entry."""
    entries: dict[str, dict[str, Tensor]] = {}
    for key in file.keys():  # noqa: SIM118
        entry, name = json.loads(key)
        entries.setdefault(entry, {})[name] = file.get_tensor(key)
    return StateDicts(entries, tuple(json.loads(file.metadata()["others"])))


def reachable() -> str:
    """What a process that reads a checkpoint could reach here, beyond the checkpoint; empty where all is closed."""
    return _reader.ask({"look": os.getpid(), "seconds": SECONDS})


def _nameless() -> IO[bytes]:
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("tensors"), "w+b")
    return tempfile.TemporaryFile()


class _Reader:
    """The process that reads, started when it is needed first; it ends with this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asker = 0
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: dict[str, int], *descriptors: int) -> str:
        """What is wrong with a file; nothing if its tensors are in the other."""
        with self._lock:
            if self._asker != os.getpid() or self._process is None or self._process.poll() is not None:
                self._start()
            try:
                socket.send_fds(self._channel, [json.dumps(request).encode()], descriptors)
                answer = self._channel.recv(2**16)
            except OSError:
                answer = b""
            except BaseException:  # a deadline, Ctrl-C: what is still to come must not answer the next request
                self._process = None
                raise
            if not answer:
                self._process = None
                raise CheckpointError("the process that reads checkpoints died: memory may have run out; try again")
        return "".join(each for each in str(json.loads(answer)) if each.isprintable())

    def _start(self) -> None:
        self._asker = os.getpid()  # a fork of it has no part in the answers
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "evalsvc.load_worker", str(theirs.fileno())],
                env=confinement.environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )


_reader = _Reader()
