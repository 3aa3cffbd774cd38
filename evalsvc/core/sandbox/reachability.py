"""Probe of a sandboxed process: tries the accesses that hostile code would try and reports those that succeed."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_NULL = os.stat(os.devnull).st_rdev  # noqa: PTH116 (a sandboxed process cannot call more)
_FOLDER, _PROBE = Path(tempfile.gettempdir()), f"evalsvc-probe-{uuid.uuid4().hex}"
_FIRST = range(256)
"""Descriptors to inspect."""


def probe(asker: int, kept: int) -> list[str]:
    """List what this process can reach besides its memory and the ``kept`` descriptors after the standard streams.

    ``asker`` is the id of another process of the same user. The probe changes nothing.
    """
    others = (asker, os.getppid())
    attempts: dict[str, Callable[[], object]] = {
        "files": lambda: Path("/etc/passwd").read_bytes(),
        "names of files": lambda: Path("/etc/passwd").stat(),
        "folders to write to": _make_folder,
        "the environment of other processes": lambda: _either(
            lambda other: Path(f"/proc/{other}/environ").read_bytes(), others
        ),
        "the memory of other processes": lambda: _either(_read_memory, others),
        "signals to other processes": lambda: _either(lambda other: os.kill(other, 0), others),
        "the network": _connect,
        "sockets": socket.socketpair,
        "further processes": _fork,
        "other programs": _execute,
        "a terminal": lambda: os.open("/dev/tty", os.O_RDWR),
        "foreign descriptors": lambda: _refuse_if(_descriptors() <= set(range(3 + kept))),
        "foreign standard streams": lambda: _refuse_if(all(os.fstat(each).st_rdev == _NULL for each in range(3))),
        "a foreign session": lambda: _refuse_if(os.getsid(0) == os.getpgid(0) == os.getpid()),
        "root": lambda: os.setuid(0),
    }
    return [what for what, attempt in attempts.items() if _succeeds(attempt)]


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, AttributeError):  # the latter if the system lacks the call
        return False
    return True


def _refuse_if(condition: bool) -> None:
    if condition:
        raise PermissionError


def _either(attempt: Callable[[int], object], others: tuple[int, ...]) -> None:
    """Raise if all of these attempts fail."""
    _refuse_if(not any(_succeeds(lambda other=other: attempt(other)) for other in others))  # type: ignore[misc]


def _make_folder() -> None:
    folder = _FOLDER / _PROBE
    folder.mkdir()
    folder.rmdir()


def _read_memory(other: int) -> None:
    """Whether the system allows reading: reading an unmapped address then fails with EFAULT only."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = (ctypes.c_void_p * 2)(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
    there = (ctypes.c_void_p * 2)(0, 8)
    done = libc.process_vm_readv(other, here, 1, there, 1, 0)
    _refuse_if(done < 0 and ctypes.get_errno() != errno.EFAULT)


def _connect() -> None:
    with socket.socket() as probe:
        probe.settimeout(1)
        with suppress(ConnectionRefusedError):  # by a machine that was reached
            probe.connect(("127.0.0.1", 9))


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _execute() -> None:
    """Whether a program could be executed: arguments at an unmapped address then cause EFAULT only."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.execve(b"/bin/sh", ctypes.c_void_p(1), ctypes.c_void_p(1))
    _refuse_if(ctypes.get_errno() != errno.EFAULT)


def _descriptors() -> set[int]:
    open_ = set()
    for each in _FIRST:
        with suppress(OSError):
            os.fstat(each)
            open_.add(each)
    return open_
