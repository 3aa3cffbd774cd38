"""Seccomp filter: restrict this process to computation and to its open descriptors, irrevocably.

The filter is an allow-list. The process cannot open files, execute programs, start processes or threads, use sockets,
terminals or kernel keys, or signal other processes; system calls added by later kernels are refused too. A wider list
is for programs in namespaces of their own: files, threads, and pairs of sockets, but neither processes nor networks.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

_ALLOWED = {
    # name: number on x86-64 and on 64-bit ARM
    **{"read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67)},
    **{"pwrite64": (18, 68), "lseek": (8, 62), "ftruncate": (77, 46), "close": (3, 57), "fstat": (5, 80)},
    **{"mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "madvise": (28, 233)},
    **{"brk": (12, 214), "futex": (202, 98), "membarrier": (324, 283), "rseq": (334, 293), "getrandom": (318, 278)},
    **{"rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132)},
    **{"restart_syscall": (219, 128), "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "getcpu": (309, 168)},
    **{"nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114)},
    **{"gettimeofday": (96, 169), "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178)},
    **{"getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177)},
    **{"getrusage": (98, 165), "sysinfo": (99, 179), "uname": (63, 160), "exit": (60, 93), "exit_group": (231, 94)},
}
_PROGRAMS = {
    # -1: 64-bit ARM does not have it
    **{"open": (2, -1), "stat": (4, -1), "lstat": (6, -1), "poll": (7, -1), "access": (21, -1), "pipe": (22, -1)},
    **{"select": (23, -1), "dup2": (33, -1), "pause": (34, -1), "alarm": (37, -1), "rename": (82, -1)},
    **{"mkdir": (83, -1), "rmdir": (84, -1), "unlink": (87, -1), "symlink": (88, -1), "readlink": (89, -1)},
    **{"chmod": (90, -1), "time": (201, -1), "epoll_wait": (232, -1), "openat": (257, 56), "newfstatat": (262, 79)},
    **{"statx": (332, 291), "faccessat": (269, 48), "faccessat2": (439, 439), "readlinkat": (267, 78)},
    **{"getdents64": (217, 61), "getcwd": (79, 17), "chdir": (80, 49), "mkdirat": (258, 34), "unlinkat": (263, 35)},
    **{"renameat": (264, 38), "renameat2": (316, 276), "symlinkat": (266, 36), "truncate": (76, 45)},
    **{"fchmod": (91, 52), "fchmodat": (268, 53), "utimensat": (280, 88), "fsync": (74, 82), "flock": (73, 32)},
    **{"umask": (95, 166), "dup": (32, 23), "dup3": (292, 24), "pipe2": (293, 59), "ppoll": (271, 73)},
    **{"pselect6": (270, 72), "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_pwait": (281, 22)},
    **{"eventfd2": (290, 19), "sendto": (44, 206), "recvfrom": (45, 207), "shutdown": (48, 210)},
    **{"set_robust_list": (273, 99), "set_tid_address": (218, 96), "setitimer": (38, 103), "getitimer": (36, 102)},
    **{"rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133), "times": (100, 153)},
    **{"getrlimit": (97, 163), "wait4": (61, 260)},
}
"""Further calls of programs in namespaces."""
_CLONE, _CLONE3, _SOCKETPAIR, _IOCTL = (56, 220), (435, 435), (53, 199), (16, 29)
_THREAD, _UNIX_SOCKETS = 0x10000, 1
_TERMINAL_SETTINGS, _NONBLOCKING, _KEPT_ON_EXEC, _CLOSED_ON_EXEC = 0x5401, 0x5421, 0x5450, 0x5451
_FCNTL, _FSTATAT, _PRLIMIT, _KILL, _TGKILL = (72, 25), (262, 79), (302, 261), (62, 129), (234, 131)

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_SET_FILTER = (22, 2)
"""Of ``prctl``."""

_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _REFUSE, _UNKNOWN, _KILL_PROCESS = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
"""Return values of the filter; a refused call fails with EPERM, an unknown one with ENOSYS."""


def install(programs: bool = False) -> bool:
    """Install the filter for this process, which must have set no_new_privs; return whether it is supported.

    With ``programs`` it is the wider one, for a process in namespaces of its own.
    """
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        return False
    rules = b"".join(_program(*_ARCHITECTURES[platform.machine()], os.getpid(), programs))
    memory = ctypes.create_string_buffer(rules, len(rules))
    program = struct.pack("@HP", len(rules) // 8, ctypes.addressof(memory))
    return int(ctypes.CDLL(None, use_errno=True).prctl(*_SET_FILTER, program, 0, 0)) == 0


def _program(column: int, architecture: int, process: int, programs: bool = False) -> list[bytes]:
    """The filter as BPF instructions; ``process`` may signal itself."""
    rules = [
        *(_rule(_LOAD, _ARCHITECTURE), _rule(_EQUAL, architecture, 1, 0), _rule(_RETURN, _KILL_PROCESS)),
        _rule(_LOAD, _NUMBER),
    ]
    for numbers in (_ALLOWED | _PROGRAMS if programs else _ALLOWED).values():
        if numbers[column] >= 0:
            rules += [_rule(_EQUAL, numbers[column], 0, 1), _rule(_RETURN, _ALLOW)]
    if programs:
        # The C library starts threads by clone where clone3, whose flags a filter cannot read, is unknown.
        rules += [_rule(_EQUAL, _CLONE3[column], 0, 1), _rule(_RETURN, _UNKNOWN)]
        rules += _if_argument(_CLONE[column], 0, (_THREAD,), mask=_THREAD)
        rules += _if_argument(_SOCKETPAIR[column], 0, (_UNIX_SOCKETS,))
        settings = (_TERMINAL_SETTINGS, _NONBLOCKING, _KEPT_ON_EXEC, _CLOSED_ON_EXEC)
        rules += _if_argument(_IOCTL[column], 1, settings)
    # Duplication and flags of descriptors, and seals of memory; owners for signals, leases, locks and watches are
    # refused.
    rules += _if_argument(_FCNTL[column], 1, (0, 1, 2, 3, 4, 1030, 1034))
    # Only with an empty name, which refers to the open descriptor: the C library uses this call for fstat.
    rules += _if_argument(_FSTATAT[column], 3, (0x1000,), mask=0x1000)
    rules += _if_argument(_PRLIMIT[column], 0, (0,))
    rules += _if_argument(_KILL[column], 0, (process,))
    rules += _if_argument(_TGKILL[column], 0, (process,))
    return [*rules, _rule(_RETURN, _REFUSE)]


def _if_argument(number: int, position: int, values: tuple[int, ...], mask: int = 0xFFFFFFFF) -> list[bytes]:
    """Allow a call if the lower 32 bits of an argument, the only ones that the kernel reads here, match a value."""
    tests = [rule for value in values for rule in (_rule(_EQUAL, value, 0, 1), _rule(_RETURN, _ALLOW))]
    body = [_rule(_LOAD, _ARGUMENTS + 8 * position), _rule(_AND, mask), *tests, _rule(_RETURN, _REFUSE)]
    return [_rule(_EQUAL, number, 0, len(body)), *body]


def _rule(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_so, if_not, value)
