"""Modes of new files and folders: for one user, or for a group with EVALSVC_FILE_MODE=group.

They override the umask. Existing files are not changed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from evalsvc.core.settings import Settings


@dataclass(frozen=True)
class Modes:
    """Permission bits of new files and new folders."""

    file: int
    folder: int


_MODES = {"private": Modes(0o600, 0o700), "group": Modes(0o660, 0o2770)}


def modes() -> Modes:
    """The configured modes."""
    return _MODES[Settings().file_mode]


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents.

    Raises:
        OSError: it cannot be created.
    """
    try:
        path.mkdir(mode=0o700)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_folder(path.parent)
        make_folder(path)
    except OSError:  # it exists, or the file system is read-only
        if not path.is_dir():
            raise
    else:
        path.chmod(modes().folder)


def make_file(path: Path) -> None:
    """Create a new, empty file.

    Raises:
        OSError: it exists or cannot be created.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.fchmod(descriptor, modes().file)
    finally:
        os.close(descriptor)
