"""Opening of outside files that must be regular: a named pipe or a device could block forever."""

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
"""Bytes to which any compressed file may unpack, and the compression ratio allowed for larger ones."""


MOST_WHOLE = 2**30
"""Largest file that is read into memory as a whole, in bytes."""


def most_unpacked(size: int) -> int:
    """Limit in bytes for the unpacked content of a compressed file of this size (decompression bombs)."""
    return max(UNPACKED, UNPACKED_TIMES * size)


def open_regular(path: Path | str) -> BufferedReader:
    """Open a file for reading, following symbolic links.

    Raises:
        InputError: it is a named pipe, a socket or a device; it was neither read nor waited for.
        OSError: it cannot be opened, or is a folder.
    """
    require_regular(path)  # before opening, which some devices treat as a command
    # And after opening, since the file may have been replaced: without blocking, and not as a controlling terminal.
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


def read_whole(path: Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: it cannot be read, is not regular, or has more than 1 GiB.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MOST_WHOLE + 1)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error}): restore it") from None
    if len(content) > MOST_WHOLE:
        raise InputError(f"{path} has more than {MOST_WHOLE:,} bytes: use a smaller file")
    return content


def require_regular(path: Path | str) -> None:
    """Raise an :class:`InputError` if the path exists and is neither a file nor a folder; links are followed."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (three times as fast as a Path, and called for every file of a folder)
    except OSError:  # the code that opens it reports the error
        return
    _refuse_special(path, mode)


def _refuse_special(path: Path | str, mode: int) -> None:
    if kind := _OTHERS.get(stat.S_IFMT(mode)):
        raise InputError(f"{path} is {kind}: use a regular file")
