"""Splits of a dataset by the names of its Parquet files, as ``datasets`` and the hub name them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from evalsvc.core.errors import InputError

SHARD = re.compile(r"-[0-9]{5}-of-[0-9]{5}(-[0-9a-f]+)?$")
"""End of the name of one of several files of a split."""


def files_of_split(names: Iterable[str], split: str, what: str, shard: re.Pattern[str] = SHARD) -> list[str]:
    """The names of one split, sorted; ``split`` may be empty if there is only one. ``shard`` ends names of parts.

    ``data/test-00000-of-00002.parquet``, ``test.parquet`` and ``test/0000.parquet`` belong to the split ``test``. Where
    a dataset has several configurations, ``configuration/split`` names one.

    Raises:
        InputError: there is no such split, or several match.
    """
    splits: dict[str, list[str]] = {}
    for name in sorted(names):
        splits.setdefault(split_of(name, shard), []).append(name)
    matching = [each for each in splits if split in ("", each, each.rpartition("/")[2])]
    exact = [each for each in matching if each == split] or matching
    if len(exact) == 1:
        return splits[exact[0]]
    listed = ", ".join(exact or difflib.get_close_matches(split, splits, cutoff=0.3) or list(splits)[:20]) or "none"
    if exact:
        raise InputError(f"{what} contains several splits ({listed}): set 'split' to one of them")
    raise InputError(f"{what} has no split {split!r}: the nearest are {listed}")


def split_of(name: str, shard: re.Pattern[str] = SHARD) -> str:
    """The split, with its configuration, to which a file belongs by its name."""
    path = PurePosixPath(name)
    stem = shard.sub("", path.stem)
    folders = [part for part in path.parent.parts if part != "data"]
    if not stem or (stem.isdigit() and folders):
        return "/".join(folders)
    return "/".join([*folders, stem])
