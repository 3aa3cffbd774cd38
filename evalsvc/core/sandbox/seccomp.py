"""Seccomp filter: restrict this process to computation and to its open descriptors, irrevocably.

The filter is an allow-list. The process cannot open files, execute programs, start processes or threads, use sockets,
terminals or kernel keys, or signal other processes; system calls added by later kernels are refused too.
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
_FCNTL, _FSTATAT, _PRLIMIT, _KILL, _TGKILL = (72, 25), (262, 79), (302, 261), (62, 129), (234, 131)

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_SET_FILTER = (22, 2)
"""Of ``prctl``."""

_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _REFUSE, _KILL_PROCESS = 0x7FFF0000, 0x00050001, 0x80000000
"""Return values of the filter; a refused call fails with EPERM."""


def install() -> bool:
    """Install the filter for this process, which must have set no_new_privs; return whether it is supported."""
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        return False
    rules = b"".join(_program(*_ARCHITECTURES[platform.machine()], os.getpid()))
    memory = ctypes.create_string_buffer(rules, len(rules))
    program = struct.pack("@HP", len(rules) // 8, ctypes.addressof(memory))
    return int(ctypes.CDLL(None, use_errno=True).prctl(*_SET_FILTER, program, 0, 0)) == 0


def _program(column: int, architecture: int, process: int) -> list[bytes]:
    """The filter as BPF instructions; ``process`` may signal itself."""
    rules = [
        *(_rule(_LOAD, _ARCHITECTURE), _rule(_EQUAL, architecture, 1, 0), _rule(_RETURN, _KILL_PROCESS)),
        _rule(_LOAD, _NUMBER),
    ]
    for numbers in _ALLOWED.values():
        rules += [_rule(_EQUAL, numbers[column], 0, 1), _rule(_RETURN, _ALLOW)]
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
