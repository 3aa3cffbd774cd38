"""Exclusion of listed files from a sample set."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from evalsvc.core.errors import InputError
from evalsvc.core.files.system_files import is_system_file


def exclude_files(path: Path, names: Iterable[str], skip: Collection[str], what: str) -> list[str]:
    """The names except those in ``skip``; an absent or the last name raises an error. ``what`` is ``images``."""
    # System files, which older versions listed here, are not among the names.
    kept, left_out = list(names), {name for name in skip if not is_system_file(name)}
    if absent := left_out.difference(kept):
        raise InputError(f"{path} contains no {what.removesuffix('s')} {min(absent)!r}, which is to be skipped")
    if left_out:
        kept = [name for name in kept if name not in left_out]
        if not kept:
            raise InputError(f"{path} contains no readable {what}")
    return kept
