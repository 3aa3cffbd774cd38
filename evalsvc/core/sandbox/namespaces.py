"""Namespaces of a process that runs an untrusted program: a private root, no network, no other process in sight.

Unlike :mod:`evalsvc.core.sandbox.restrictions`, which adds layers where the platform has them, every step here must
succeed: a program runs in all of these layers, or not at all.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

from evalsvc.core.sandbox import restrictions, seccomp

THREADS, DESCRIPTORS = 32, 64
FOLDER = "/tmp"
"""The only folder that a program can write to."""
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
_NOBODY = 65534

# From the Linux headers.
_ALL = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""Mounts, control groups, host name, IPC, users, processes and network."""
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _NO_PROGRAMS = 1, 2, 4, 8
_BIND, _RECURSIVE, _PRIVATE, _DETACH = 0x1000, 0x4000, 0x40000, 2
_MOUNT_SETATTR, _ALL_MOUNTS_BELOW, _CWD = 442, 0x8000, -100
_PIVOT_ROOT, _CAPSET = {"x86_64": 155, "aarch64": 41}, {"x86_64": 126, "aarch64": 91}
_CAPABILITIES_3, _DEATH_SIGNAL, _DUMPABLE, _NO_NEW_PRIVILEGES = 0x20080522, 1, 4, 38


def isolate(memory: int, seconds: int, written: int) -> None:
    """Continue in a child process that is alone in new namespaces; the calling process waits for its end, and exits.

    The child can read the system's libraries and Python's, write up to ``written`` bytes in one empty folder, use
    ``memory`` bytes more than now, ``seconds`` of CPU time and 32 threads, and start no process. Its root contains
    only these files, and it is another user than root. Call it in a process with one thread and without open folders.

    Raises:
        OSError: the system does not allow one of these steps; the message names it.
    """
    if platform.machine() not in _CAPSET:
        raise OSError(f"not supported on {platform.machine()}")
    os.umask(0o022)
    libc = ctypes.CDLL(None, use_errno=True)
    restrictions.limit(memory, seconds, written)
    _enter(libc)
    _enter_new_root(libc, written)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(0 if status == 0 else 1)
    _give_up_rights(libc)


def _enter(libc: ctypes.CDLL) -> None:
    """Enter the namespaces. A second process, which stays outside, maps the users."""
    with suppress(PermissionError):
        os.setgroups([])
    inside, user, group = os.getpid(), os.getuid(), os.getgid()
    reading, writing = os.pipe()
    mapper = os.fork()
    if not mapper:
        os.close(writing)
        entered = os.read(reading, 1)
        os._exit(0 if entered and _map_users(inside, user, group) else 1)
    os.close(reading)
    try:
        _must("unshare", libc.unshare(_ALL))
        os.write(writing, b"1")
    finally:
        os.close(writing)
        _, status = os.waitpid(mapper, 0)
    if status:
        raise OSError("the map of users: not permitted")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _must("prctl", libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0))


def _map_users(inside: int, user: int, group: int) -> bool:
    """Map this user to 0 inside; and for root, if it may, a user without rights to 1."""
    folder = Path(f"/proc/{inside}")
    for two in (user == 0, False):
        try:
            (folder / "setgroups").write_text("deny")
            for name, own in (("uid_map", user), ("gid_map", group)):
                (folder / name).write_text(f"0 {own} 1\n" + (f"1 {_NOBODY} 1\n" if two else ""))
        except OSError:
            continue
        return True
    return False


def _enter_new_root(libc: ctypes.CDLL, written: int) -> None:
    """Make a root folder of Python's libraries and the system's, all of them read-only, and enter it."""
    new = str(Path(__file__).parent)  # any folder that exists: only in these namespaces is it covered
    python = [f"{sys.base_prefix}/{name}" for name in ("lib", sys.platlibdir)]
    libraries = list(dict.fromkeys((*_LIBRARIES, *map(os.path.normpath, python))))
    _mount(libc, "", "/", "", _RECURSIVE | _PRIVATE)
    _mount(libc, "tmpfs", new, "tmpfs", _NO_SETUID | _NO_DEVICES, "size=1m,mode=755")
    for library in map(Path, libraries):
        place = Path(new + str(library))
        if library.is_symlink() and library.parent == Path("/"):
            place.symlink_to(library.readlink())
        elif library.is_dir() and not place.exists():
            place.mkdir(parents=True)
            _mount(libc, str(library), str(place), "", _BIND | _RECURSIVE)
            for packages in place.glob("python*/*-packages"):  # may hold data sets with the tests of an item
                _mount(libc, "tmpfs", str(packages), "tmpfs", _NO_SETUID | _NO_DEVICES, "size=4k,mode=755")
    Path(new + FOLDER).mkdir()
    _make_read_only(libc, new)
    _mount(
        libc,
        "tmpfs",
        new + FOLDER,
        "tmpfs",
        _NO_SETUID | _NO_DEVICES | _NO_PROGRAMS,
        f"size={written},nr_inodes=1024,mode=1777",
    )
    os.chdir(new)
    _must("pivot_root", libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."))
    _must("umount", libc.umount2(b".", _DETACH))
    os.chdir(FOLDER)


def _make_read_only(libc: ctypes.CDLL, folder: str) -> None:
    attributes = (ctypes.c_uint64 * 4)(_READ_ONLY | _NO_SETUID | _NO_DEVICES, 0, 0, 0)
    size = ctypes.sizeof(attributes)
    result = libc.syscall(_MOUNT_SETATTR, _CWD, folder.encode(), _ALL_MOUNTS_BELOW, ctypes.byref(attributes), size)
    _must("mount_setattr", result)


def _give_up_rights(libc: ctypes.CDLL) -> None:
    with suppress(OSError):  # where root may not map a second user, or does not run this
        os.setresgid(1, 1, 1)
        os.setresuid(1, 1, 1)
    none = (ctypes.c_uint32 * 6)()
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    _must("capset", libc.syscall(_CAPSET[platform.machine()], header, none))
    for what, most in ((resource.RLIMIT_NPROC, THREADS), (resource.RLIMIT_NOFILE, DESCRIPTORS)):
        resource.setrlimit(what, (most, most))
    os.setsid()
    for option, value in ((_DEATH_SIGNAL, signal.SIGKILL), (_DUMPABLE, 0), (_NO_NEW_PRIVILEGES, 1)):
        _must("prctl", libc.prctl(option, value, 0, 0, 0))
    Path(os.__file__).open().close()  # Python may be installed for one user alone
    if not seccomp.install(programs=True):
        raise OSError("the filter of system calls: not supported")


def _mount(libc: ctypes.CDLL, source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    parts = (source.encode() or None, target.encode(), kind.encode() or None)
    _must("mount", libc.mount(*parts, ctypes.c_ulong(flags), data.encode() or None))


def _must(what: str, result: int) -> None:
    if result < 0:
        raise OSError(f"{what}: {os.strerror(ctypes.get_errno())}")
