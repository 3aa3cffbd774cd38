"""Files from outside, opened only where they are files: a named pipe is waited for, and a device read, for ever."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from evalsvc.core.errors import InputError

_OTHERS = {
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


UNPACKED, UNPACKED_TIMES = 2**28, 100
"""Bytes that any compressed file may unpack to, and times its size that a larger one may."""


def most_unpacked(size: int) -> int:
    """Bytes that a compressed file of so many may unpack to without being taken for a decompression bomb."""
    return max(UNPACKED, UNPACKED_TIMES * size)


def open_regular(path: Path | str) -> BufferedReader:
    """Open a file for reading, every link followed.

    Raises:
        InputError: it is a named pipe, a socket or a device. Nothing of it was read, and nothing waited for it.
        OSError: it cannot be opened, or is a folder.
    """
    require_regular(path)  # before it is opened, which some devices take for a command
    # And afterwards: another may lie there by now. That one is not waited for, and becomes no terminal of ours.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        _refuse_special(path, mode)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def require_regular(path: Path | str) -> None:
    """Raise an :class:`InputError` for what is there and neither a file nor a folder; links are followed."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (thrice as fast as a Path, and asked of every file of a folder)
    except OSError:  # whoever opens it says what is wrong
        return
    _refuse_special(path, mode)


def _refuse_special(path: Path | str, mode: int) -> None:
    if kind := _OTHERS.get(stat.S_IFMT(mode)):
        raise InputError(f"{path} is {kind}: only regular files are read")
