"""Restrictions of a process that reads untrusted bytes: its environment, descriptors, limits and privileges."""

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

# From the Linux headers.
_DEATH_SIGNAL, _DUMPABLE, _NO_NEW_PRIVILEGES, _SUBREAPER = 1, 4, 38, 36
_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000
_CLOSE_RANGE = 436
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_FILES = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
"""File access rights that Landlock can forbid, by the first ABI version that supports them."""


def environment() -> dict[str, str]:
    """Environment of a child process: the variables that Python needs, without database, token or cloud credentials."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return kept | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def import_path() -> dict[str, str]:
    """Environment variable with which a child started with ``-P`` imports from the same places as this process.

    The current folder is left out: it may be untrusted and contain a ``torch.py``.
    """
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants instead of the init process (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def keep_only(*descriptors: int) -> list[int]:
    """Close the terminal and all descriptors except these; return their new numbers, starting at 3.

    The standard streams are connected to the null device. The process starts a session and a process group of its own,
    through which its parent can end all of its descendants.
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
    """Limit bytes of memory beyond the current use, CPU seconds and bytes per file; disable core dumps."""
    limits = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_FSIZE: written, resource.RLIMIT_CORE: 0}
    if sys.platform == "linux":  # other kernels do not enforce it
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory
    for what, bound in limits.items():
        resource.setrlimit(what, (bound, bound))


def confine() -> None:
    """Irrevocably give up everything except memory, time and the open descriptors.

    On every POSIX system, the process can afterwards open no file, socket or terminal and start no process or thread,
    so it cannot import modules either. On Linux, each of the following is added if the platform supports it: another
    user (for root), namespaces without network and with an empty root folder, Landlock, and a seccomp filter.
    :func:`evalsvc.core.sandbox.reachability.probe` reports the remaining access.
    """
    libc, linux = ctypes.CDLL(None, use_errno=True), sys.platform == "linux"
    apart = linux and _enter_namespaces(libc, _NEW_NETWORK | _NEW_IPC)
    _drop_root()
    if linux:
        _enter_namespaces(libc, _NEW_USER if apart else _NEW_USER | _NEW_NETWORK | _NEW_IPC)
        libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # after the change of user, which clears the setting
        libc.prctl(_DUMPABLE, 0, 0, 0, 0)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        _landlock(libc)
    _forbid_processes()
    seccomp.install()


def _enter_namespaces(libc: ctypes.CDLL, namespaces: int) -> bool:
    """Enter new namespaces and an empty root folder; return whether the system allows the former."""
    apart = bool(libc.unshare(namespaces) == 0)
    with suppress(OSError):
        os.chroot("/proc/self/fdinfo")
        os.chdir("/")
    return apart


def _drop_root() -> None:
    if os.getuid() == 0:
        with suppress(PermissionError):  # a container without this capability
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)


def _forbid_processes() -> None:
    """Forbid further processes and threads, and further descriptors."""
    for what in (resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(what, (0, 0))


def _landlock(libc: ctypes.CDLL) -> None:
    """Forbid every access to files, and everything else that this version of Landlock supports."""
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return
    files = _FILES[max(first for first in _FILES if first <= version)]
    # Files; binding and connecting TCP sockets; abstract sockets and signals of other processes.
    rules = [files, *([3] if version >= 4 else []), *([3] if version >= 6 else [])]
    attributes = (ctypes.c_uint64 * len(rules))(*rules)
    ruleset = libc.syscall(_LANDLOCK_CREATE, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    if ruleset >= 0:
        libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0)
        os.close(ruleset)
