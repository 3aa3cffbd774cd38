"""Run as a user whom permission bits bind: tests may run as root, who writes everywhere."""

from __future__ import annotations

import ctypes
import os
import pickle
import traceback
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_CAPSET = {"x86_64": 126, "aarch64": 91}
_VERSION_3 = 0x20080522


def unprivileged(function: Callable[[], T]) -> T:
    """What a function answers in a copy of this process that has given up all capabilities."""

    def without_capabilities() -> T:
        _drop_capabilities()
        return function()

    return in_a_copy(without_capabilities)


def in_a_copy(function: Callable[[], T]) -> T:
    """What a function answers in a copy of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = pickle.dumps((True, function()))
        except BaseException:
            answer = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        well, answer = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    assert well, answer
    return answer


def _drop_capabilities() -> None:
    header, none = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_CAPSET[os.uname().machine], header, none):
        raise OSError(ctypes.get_errno(), "capset")
