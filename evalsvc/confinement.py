"""A process that works on bytes nobody vouches for: what it inherits, and what it can still reach."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

_INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR")
_NOBODY = 65534

# From the headers of Linux.
_NO_NEW_PRIVILEGES = 38
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_BENEATH, _READ = 1, 0b1100
_FILES = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
"""All that Landlock can forbid about files, by the first version of its interface that can."""


def environment() -> dict[str, str]:
    """The environment of a child: what Python needs to start, and no database, token or cloud credential."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return kept | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def limit(memory: int, seconds: int, written: int) -> None:
    """Bound this process: bytes of memory beyond what it has, processor seconds, bytes of a file. No core dumps."""
    limits = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_FSIZE: written, resource.RLIMIT_CORE: 0}
    if sys.platform == "linux":  # elsewhere the kernel does not hold to it
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory
    for what, bound in limits.items():
        resource.setrlimit(what, (bound, bound))


def confine() -> None:
    """Give up, for good, whatever the system lets a process give up: root, the network, every file but those of Python.

    On Linux the process can also no longer look into others, whose environments may hold secrets: it is another user
    (if it was root), in a user namespace of its own, or held by Landlock. One of the three is enough;
    :func:`reachable` tells what is left where none is to be had.
    """
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        libc.unshare(_NEW_USER | _NEW_NETWORK)
        _landlock(libc)


def _landlock(libc: ctypes.CDLL) -> None:
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return
    files = _FILES[max(first for first in _FILES if first <= version)]
    # Files; binding and connecting TCP sockets; abstract sockets of, and signals to, others.
    rules = [files, *([3] if version >= 4 else []), *([3] if version >= 6 else [])]
    attributes = (ctypes.c_uint64 * len(rules))(*rules)
    ruleset = libc.syscall(_LANDLOCK_CREATE, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    if ruleset >= 0:
        for folder in {sys.prefix, sys.base_prefix}:  # what Python imports late
            with suppress(OSError):
                there = os.open(folder, os.O_RDONLY)
                libc.syscall(_LANDLOCK_ADD, ruleset, _BENEATH, struct.pack("=Qi", _READ, there), 0)
                os.close(there)
        libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0)
        os.close(ruleset)


def reachable(process: int) -> list[str]:
    """What this process can still reach, ``process`` being another of the user who started it."""
    found = []
    for what, path in (("files", "/etc/passwd"), ("the environment of other processes", f"/proc/{process}/environ")):
        with suppress(OSError):
            Path(path).read_bytes()
            found.append(what)
    with socket.socket() as probe:
        probe.settimeout(1)
        try:
            probe.connect(("127.0.0.1", 9))
            found.append("the network")
        except ConnectionRefusedError:
            found.append("the network")
        except OSError:  # there is none, or it is forbidden
            pass
    return found
