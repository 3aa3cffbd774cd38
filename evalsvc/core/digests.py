"""sha256 digests of files, folders and plain data, which define identity throughout evalsvc."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import open_regular, require_regular
from evalsvc.core.files.system_files import is_system_file

CONTENTS = "contents"
"""Option of a generator with the digests of the files that other options name, by option."""


def digest_path(path: Path) -> str:
    """sha256 of a file's bytes; for a folder, the sha256 over its sorted relative names and file digests."""
    if path.is_file():
        if path.stat().st_size == 0:
            raise InputError(f"{path} is an empty file")
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return digest_files(path, _files_of(path))


def digest_files(folder: Path, names: Iterable[str]) -> str:
    """sha256 over the relative names and the digests of these files, in the given order."""
    total = hashlib.sha256()
    for name in names:
        with open_regular(folder / name) as file:
            line = f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n"
        total.update(line.encode(errors="surrogateescape"))
    return total.hexdigest()


def stamp_path(path: Path, exclude_files: Callable[[str], bool] = lambda name: False) -> str:
    """Digest of names, sizes and modification times: if it is unchanged, the content need not be read again.

    Files of a folder for which ``exclude_files`` returns true are ignored.
    """
    # A sum is independent of the order, so a folder of a million files need not be sorted.
    total = 0
    for name in [""] if path.is_file() else _files_of(path, ordered=False, exclude_files=exclude_files):
        stat = os.stat(os.path.join(path, name) if name else path)  # noqa: PTH116, PTH118 (three times as fast as a Path)
        facts = f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}"
        total += int.from_bytes(hashlib.sha256(facts.encode(errors="surrogateescape")).digest())
    return f"{total % 2**256:064x}"


def walk(
    folder: Path,
    below: str = "",
    *,
    ordered: bool = True,
    exclude_files: Callable[[str], bool] = lambda name: False,
    above: tuple[tuple[int, int], ...] = (),
) -> Iterator[str]:
    """Relative names of all files below a folder; if ``ordered``, sorted by their parts.

    Files and folders whose own name satisfies ``exclude_files`` are skipped. Symbolic links are followed; a link to a
    parent folder, a dangling link, a named pipe, a socket or a device raises an error.
    """
    stat = (folder / below).stat()
    if (here := (stat.st_dev, stat.st_ino)) in above:
        raise InputError(f"{folder / below} is a symbolic link to a folder that contains it: remove it")
    names, folders = [], set()
    with os.scandir(folder / below) as entries:
        for entry in entries:
            if exclude_files(entry.name):
                continue
            if entry.is_dir():
                folders.add(entry.name)
            elif not entry.is_file():
                # Editors lock files with dangling links whose names begin with a dot.
                if not is_system_file(below + entry.name):
                    if entry.is_symlink() and not Path(entry).exists():
                        raise InputError(f"{entry.path} is a dangling symbolic link: repair or remove it")
                    require_regular(entry.path)
                continue
            elif not ordered:
                yield below + entry.name
                continue
            names.append(entry.name)
    for name in sorted(names) if ordered else names:
        if name in folders:
            parents = (*above, here)
            yield from walk(folder, f"{below}{name}/", ordered=ordered, exclude_files=exclude_files, above=parents)
        else:
            yield below + name


def _files_of(
    folder: Path, *, ordered: bool = True, exclude_files: Callable[[str], bool] = lambda name: False
) -> Iterator[str]:
    """The files of a folder; raises if the folder is missing or empty."""
    if not folder.exists():
        raise InputError(f"{folder} does not exist")
    require_regular(folder)
    empty = True
    for name in walk(folder, ordered=ordered, exclude_files=exclude_files):
        empty = False
        yield name
    if empty:
        raise InputError(f"folder {folder} contains no files")


def digest_configuration(generator: str, version: str, options: Mapping[str, Any]) -> str:
    """sha256 of the scoring configuration: the generator, its version and its options, including decoding."""
    return digest_json([generator, version, by_content(options)])


def by_content(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the digests of pinned files in place of their paths, which differ between machines."""
    contents = options.get(CONTENTS)
    if not isinstance(contents, Mapping) or not contents.keys() <= options.keys():
        return dict(options)
    return {name: contents.get(name, value) for name, value in options.items() if name != CONTENTS}


def digest_baseline(contents: Iterable[tuple[str, str]]) -> str:
    """sha256 of a baseline: the digest and configuration of each of its checkpoints, in any order."""
    return digest_json(sorted(contents))


def digest_json(data: Any) -> str:
    """sha256 of data as canonical JSON: sorted keys, no spaces, no NaN."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    # File names may be undecodable, and JSON may contain lone surrogates: neither may raise.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
