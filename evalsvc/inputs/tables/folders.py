"""Files of a table in a folder: a dataset that ``datasets`` saved, or Parquet files as the hub names them."""

from __future__ import annotations

import re
from pathlib import Path

from evalsvc.core.digests import walk
from evalsvc.core.errors import InputError
from evalsvc.core.files.system_files import is_system_file
from evalsvc.inputs.items.splits import SHARD, files_of_split

_NUMBER = re.compile(r"[-_.]?[0-9]+$")


def saved_files(path: Path, split: str) -> list[Path]:
    """The Arrow files of one split of a saved dataset, or of a folder of Arrow files; empty if there are none.

    Raises:
        InputError: there is no such split, or several without one being named.
    """
    saved = {state.parent.name: state.parent for state in sorted(path.glob("*/state.json"))}
    if saved:
        name = files_of_split((f"{each}/0.parquet" for each in saved), split, str(path))[0].partition("/")[0]
        return _arrow_files(saved[name])
    if (arrow := _arrow_files(path)) and split:
        raise InputError(f"{path} is one split of a dataset: omit the option split")
    return arrow


def parquet_files(path: Path, split: str) -> list[Path]:
    """The Parquet files of a split; without one, all files of a folder, unless they are named as shards of splits."""
    names = [name for name in walk(path, exclude_files=is_system_file) if name.lower().endswith(".parquet")]
    if names and (split or any(SHARD.search(Path(name).stem) for name in names)):
        names = files_of_split(names, split, str(path))
    return [path / name for name in names]


def tar_files(path: Path, split: str) -> list[Path]:
    """The tar archives of a split: those of one name up to a number."""
    names = [name for name in walk(path, exclude_files=is_system_file) if name.lower().endswith(".tar")]
    return [path / name for name in files_of_split(names, split, str(path), _NUMBER)] if names else []


def _arrow_files(folder: Path) -> list[Path]:
    """The files of a saved dataset; ``datasets`` keeps the results of ``map`` beside them, as cache-*.arrow."""
    names = [name for name in walk(folder, exclude_files=is_system_file) if name.lower().endswith(".arrow")]
    return [folder / name for name in names if not Path(name).name.startswith("cache-")]
