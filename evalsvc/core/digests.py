"""sha256 digests of files, folders and plain data: what identity means everywhere in evalsvc."""

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


def digest_path(path: Path) -> str:
    """sha256 of a file's bytes; of a folder, the sha256 over its sorted relative names and file digests."""
    if path.is_file():
        if path.stat().st_size == 0:
            raise InputError(f"{path} is an empty file")
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return digest_files(path, _not_none(path))


def digest_files(folder: Path, names: Iterable[str]) -> str:
    """sha256 over the relative names and the digests of these files, in the order given."""
    total = hashlib.sha256()
    for name in names:
        with open_regular(folder / name) as file:
            line = f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n"
        total.update(line.encode(errors="surrogateescape"))
    return total.hexdigest()


def stamp_path(path: Path, without: Callable[[str], bool] = lambda name: False) -> str:
    """Digest of names, sizes and modification times: equal stamps mean that the content need not be read again.

    Of a folder, what ``walk`` passes over ``without`` is left out.
    """
    # A sum does not ask for an order, so that a folder of a million files is never listed for it.
    total = 0
    for name in [""] if path.is_file() else _not_none(path, ordered=False, without=without):
        stat = os.stat(os.path.join(path, name) if name else path)  # noqa: PTH116, PTH118 (thrice as fast as a Path)
        facts = f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}"
        total += int.from_bytes(hashlib.sha256(facts.encode(errors="surrogateescape")).digest())
    return f"{total % 2**256:064x}"


def walk(
    folder: Path,
    below: str = "",
    *,
    ordered: bool = True,
    without: Callable[[str], bool] = lambda name: False,
    above: tuple[tuple[int, int], ...] = (),
) -> Iterator[str]:
    """Relative names of all files below a folder; ``ordered`` as their parts are, listing one folder at a time.

    Files and folders whose own name is one ``without`` are passed over unread. Links are followed; one that leads back
    to where it lies, or nowhere, is an error, and so is a named pipe, a socket or a device.
    """
    stat = (folder / below).stat()
    if (here := (stat.st_dev, stat.st_ino)) in above:
        raise InputError(f"{folder / below} is a link to a folder that it lies in: remove it")
    names, folders = [], set()
    with os.scandir(folder / below) as entries:
        for entry in entries:
            if without(entry.name):
                continue
            if entry.is_dir():
                folders.add(entry.name)
            elif not entry.is_file():
                # Editors lock files by links to nothing, whose names begin with a dot.
                if not is_system_file(below + entry.name):
                    if entry.is_symlink() and not Path(entry).exists():
                        raise InputError(f"{entry.path} is a link that leads nowhere: mend or remove it")
                    require_regular(entry.path)
                continue
            elif not ordered:
                yield below + entry.name
                continue
            names.append(entry.name)
    for name in sorted(names) if ordered else names:
        if name in folders:
            yield from walk(folder, f"{below}{name}/", ordered=ordered, without=without, above=(*above, here))
        else:
            yield below + name


def _not_none(
    folder: Path, *, ordered: bool = True, without: Callable[[str], bool] = lambda name: False
) -> Iterator[str]:
    """The files of a folder; a missing or an empty one is an error."""
    if not folder.exists():
        raise InputError(f"{folder} does not exist")
    require_regular(folder)
    empty = True
    for name in walk(folder, ordered=ordered, without=without):
        empty = False
        yield name
    if empty:
        raise InputError(f"folder {folder} holds no files")


def digest_configuration(generator: str, version: str, options: Mapping[str, Any]) -> str:
    """sha256 of what a checkpoint is scored with: the generator, its version and its options, decoding included."""
    return digest_json([generator, version, dict(options)])


def digest_baseline(contents: Iterable[tuple[str, str]]) -> str:
    """sha256 of what a candidate is compared with: the digest and configuration of each checkpoint, in any order."""
    return digest_json(sorted(contents))


def digest_json(data: Any) -> str:
    """sha256 of data in canonical JSON: sorted keys, no spaces, no NaN."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    # A file name need be no text, and JSON may hold half a character: neither is a reason to fail.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
