"""Files that appear whole and durable, or not at all."""

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
"""How the names of half-written files begin."""


@contextmanager
def written_whole(target: Path, *, ours: bool = True) -> Iterator[Path]:
    """A temporary name on the target's file system, so that a rename puts it in place at once; gone after an error.

    Files that are not ``ours`` but for people have the modes that their umask says.
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
        way_out = "have its folder made writable for this user" if forbidden else "make room"
        raise StorageError(
            f"{target} could not be written ({error.strerror}): nothing half-written was left; "
            f"{way_out} and run the same command again to go on from here"
        ) from error
    finally:
        with suppress(OSError):  # where nothing can be written, nothing can be removed either
            temporary.unlink()


def put(temporary: Path, target: Path) -> None:
    """Give a written file its name, durably."""
    _sync(temporary)
    temporary.replace(target)
    _sync(target.parent)


def file_time(folder: Path) -> datetime:
    """The time by the clock that stamps the files of a folder, which is another machine's where the folder is."""
    probe = folder / f"{TEMPORARY}clock-{uuid.uuid4().hex}"
    try:
        make_file(probe)
        return datetime.fromtimestamp(probe.stat().st_mtime, UTC)
    except OSError:  # not there, or for reading only
        return datetime.now(UTC)
    finally:
        with suppress(OSError):
            probe.unlink()


def _sync(path: Path) -> None:
    """Everything of a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
