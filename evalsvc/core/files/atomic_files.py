"""Atomic and durable writes of files."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from evalsvc.core.errors import StorageError
from evalsvc.core.files.file_modes import make_file, make_folder

TEMPORARY = ".tmp-"
"""Prefix of the names of incomplete files."""


@contextmanager
def atomic_write(target: Path, *, ours: bool = True) -> Iterator[Path]:
    """Yield a temporary path on the target's file system and rename it to the target at the end; on errors remove it.

    Files that are not ``ours`` but the user's have the mode of the umask.
    """
    temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{target.name}")
    try:
        if ours:
            make_folder(target.parent)
            make_file(temporary)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        forbidden = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
        way_out = "make its folder writable for this user" if forbidden else "free disk space"
        raise StorageError(
            f"cannot write {target} ({error.strerror}), nothing half-written is left: {way_out} and run the same "
            "command again to resume"
        ) from error
    finally:
        with suppress(OSError):  # if writing fails, removing may fail too
            temporary.unlink()


def put(temporary: Path, target: Path) -> None:
    """Rename a written file to its final name, durably."""
    _sync(temporary)
    temporary.replace(target)
    _sync(target.parent)


def file_time(folder: Path) -> datetime:
    """Current time according to the file system of a folder, whose clock may belong to another machine."""
    probe = folder / f"{TEMPORARY}clock-{uuid.uuid4().hex}"
    try:
        make_file(probe)
        return datetime.fromtimestamp(probe.stat().st_mtime, UTC)
    except OSError:  # missing or read-only
        return datetime.now(UTC)
    finally:
        with suppress(OSError):
            probe.unlink()


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
