"""A process that works on untrusted bytes: what it inherits, and all that it gives up before it reads the first."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

from evalsvc.core.sandbox import seccomp

_INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR")
_NOBODY = 65534

# From the headers of Linux.
_DEATH_SIGNAL, _DUMPABLE, _NO_NEW_PRIVILEGES, _SUBREAPER = 1, 4, 38, 36
_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000
_CLOSE_RANGE = 436
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_FILES = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
"""All that Landlock can forbid about files, by the first version of its interface that can."""


def environment() -> dict[str, str]:
    """The environment of a child: what Python needs to start, and no database, token or cloud credential."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return kept | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def import_path() -> dict[str, str]:
    """The variable by which a child started with ``-P`` imports from where this process does, and not from its folder.

    The current folder may be a stranger's, with a ``torch.py`` in it.
    """
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def adopt_orphans() -> None:
    """Become the parent of what children leave behind, in place of the system's first process (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def keep_only(*descriptors: int) -> list[int]:
    """Leave the terminal and close every descriptor but these; their new numbers, which begin at 3.

    The standard streams lead to the null device. The process begins a session and a process group of its own, by which
    its parent can end all of it.
    """
    os.setsid()
    above = 3 + len(descriptors)
    copies = [
        fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, above) for each in (os.open(os.devnull, os.O_RDWR), *descriptors)
    ]
    for standard in range(3):
        os.dup2(copies[0], standard)
    for place, copy in enumerate(copies[1:], start=3):
        os.dup2(copy, place, inheritable=False)
    linux = sys.platform == "linux"
    if not linux or ctypes.CDLL(None).syscall(_CLOSE_RANGE, ctypes.c_uint(above), ctypes.c_uint(2**32 - 1), 0):
        os.closerange(above, max(int(each.name) for each in Path("/dev/fd").iterdir()) + 1)
    return list(range(3, above))


def limit(memory: int, seconds: int, written: int) -> None:
    """Bound this process: bytes of memory beyond what it has, processor seconds, bytes of a file. No core dumps."""
    limits = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_FSIZE: written, resource.RLIMIT_CORE: 0}
    if sys.platform == "linux":  # elsewhere the kernel does not hold to it
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory
    for what, bound in limits.items():
        resource.setrlimit(what, (bound, bound))


def confine() -> None:
    """Give up, for good, everything but memory, time and the descriptors that are open.

    On every POSIX system no file, socket or terminal can be opened and no process or thread started afterwards, not
    even to import a module. On Linux each of these comes on top, where the platform has it: another user (of root),
    namespaces without network and with an empty root folder, Landlock, a filter on system calls.
    :func:`evalsvc.core.sandbox.reachability.reachable` tells what is left.
    """
    libc, linux = ctypes.CDLL(None, use_errno=True), sys.platform == "linux"
    apart = linux and _set_apart(libc, _NEW_NETWORK | _NEW_IPC)
    _drop_root()
    if linux:
        _set_apart(libc, _NEW_USER if apart else _NEW_USER | _NEW_NETWORK | _NEW_IPC)
        libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # after the change of user, which clears it
        libc.prctl(_DUMPABLE, 0, 0, 0, 0)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        _landlock(libc)
    _begin_nothing()
    seccomp.install()


def _set_apart(libc: ctypes.CDLL, namespaces: int) -> bool:
    """New namespaces, and a root folder that holds nothing but numbers; whether the system allows the former."""
    apart = bool(libc.unshare(namespaces) == 0)
    with suppress(OSError):
        os.chroot("/proc/self/fdinfo")
        os.chdir("/")
    return apart


def _drop_root() -> None:
    if os.getuid() == 0:
        with suppress(PermissionError):  # of a container that lacks the right
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)


def _begin_nothing() -> None:
    """No further process or thread, and no further descriptor, under whatever number."""
    for what in (resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(what, (0, 0))


def _landlock(libc: ctypes.CDLL) -> None:
    """Forbid every access to files, and what else this version of Landlock knows."""
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return
    files = _FILES[max(first for first in _FILES if first <= version)]
    # Files; binding and connecting TCP sockets; abstract sockets of, and signals to, others.
    rules = [files, *([3] if version >= 4 else []), *([3] if version >= 6 else [])]
    attributes = (ctypes.c_uint64 * len(rules))(*rules)
    ruleset = libc.syscall(_LANDLOCK_CREATE, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    if ruleset >= 0:
        libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0)
        os.close(ruleset)
