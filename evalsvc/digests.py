"""sha256 digests of files, folders and plain data: what identity means everywhere in evalsvc."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from evalsvc.errors import InputError


def digest_path(path: Path) -> str:
    """sha256 of a file's bytes; of a folder, the sha256 over its sorted relative names and file digests."""
    if path.is_file():
        if path.stat().st_size == 0:
            raise InputError(f"{path} is an empty file")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for child in files_of(path):
        with child.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{child.relative_to(path).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def stamp_path(path: Path) -> str:
    """Digest of names, sizes and modification times: equal stamps mean that the content need not be read again."""
    files = [path] if path.is_file() else files_of(path)
    stats = [(file.relative_to(path).as_posix(), file.stat()) for file in files]
    return digest_json([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])


def files_of(folder: Path) -> list[Path]:
    """All files below a folder, sorted; a missing or empty folder is an error."""
    if not folder.exists():
        raise InputError(f"{folder} does not exist")
    files = sorted(child for child in folder.rglob("*") if child.is_file())
    if not files:
        raise InputError(f"folder {folder} holds no files")
    return files


def digest_json(data: Any) -> str:
    """sha256 of data in canonical JSON: sorted keys, no spaces, no NaN."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
