"""Digests of files: sha256 over the key and all bytes, which arrays carry in their own headers.

The key is part of it, so that another file in the place of this one is as wrong as a damaged one. In the header,
because a file and its digest then appear at once: nothing can be killed between the two.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from evalsvc.core.files.matrices import BLANK, DIGEST, read_header

_PLACE = f'"{DIGEST}":"'.encode()
"""What comes before the digest, in the JSON of a safetensors header and in the comment of an ``.npy`` header alike."""
_BLOCK = 1 << 20
_LONGEST_HEADER = 100_000_000
_TICK = 50_000_000
"""Nanoseconds. A file that was written to so shortly before it was read may be written to again with the same stamp."""


@dataclass(frozen=True)
class Stamp:
    """Which file it is, and when it was last written to; ``read_at`` is when it was stamped (ns)."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int
    read_at: int = 0

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        """The stamp of a file that is looked at now."""
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, time.time_ns())

    def covers(self, other: Stamp) -> bool:
        """Whether a file with the ``other`` stamp has the content that it had under this one."""
        settled = abs(self.read_at - max(self.modified, self.changed)) > _TICK
        return settled and self._facts == other._facts

    def is_overwritten(self, other: Stamp) -> bool:
        """Whether the ``other`` stamp is of the same file after somebody has written to it."""
        same = (self.device, self.inode) == (other.device, other.inode)
        return same and (self.size, self.modified) != (other.size, other.modified)

    @property
    def _facts(self) -> tuple[int, ...]:
        return self.device, self.inode, self.size, self.modified, self.changed


def sign(path: Path, key: str) -> bool:
    """Write the digest of a file into its header; whether that has a place for it."""
    with path.open("r+b") as file:
        place = _find_place(file, key)
        if place is None:
            return False
        digest = digest_of(file, key)
        file.seek(place)
        file.write(digest.encode())
        return True


def own_digest(file: BufferedIOBase, key: str) -> str | None:
    """The digest in a file's header; ``None`` where there is none, or no header."""
    place = _find_place(file, key)
    if place is None:
        return None
    file.seek(place)
    return file.read(len(BLANK)).decode(errors="replace")


def digest_of(file: BufferedIOBase, key: str) -> str:
    """sha256 over the key and the content, the digest's own place left blank. Holds 1 MiB of the file at a time."""
    place = _find_place(file, key)
    total = hashlib.sha256(f"{key}\0".encode())
    block = memoryview(bytearray(_BLOCK))
    file.seek(0)
    if place is not None:
        total.update(file.read(place))
        total.update(BLANK.encode())
        file.seek(place + len(BLANK))
    while count := file.readinto(block):
        total.update(block[:count])
    return total.hexdigest()


def implausible(path: str, file: BufferedIOBase, key: str) -> str:
    """Why a file without a digest cannot be what was written: it is cut off, or holds what is not finite."""
    try:
        if key.endswith(".npy"):
            header = read_header(file)
            if os.fstat(file.fileno()).st_size != header.offset + header.bytes:
                return "it is cut off"
            array = np.memmap(file, header.dtype, "r", header.offset, header.shape)
            return "" if _is_finite(array) else "it holds values that are not finite"
        if key.endswith(".safetensors"):
            with safe_open(path, framework="numpy") as tensors:
                finite = all(_is_finite(tensors.get_tensor(name)) for name in tensors.keys())  # noqa: SIM118
            return "" if finite else "it holds values that are not finite"
        if key.endswith(".json"):
            file.seek(0)
            json.load(file)
    except (OSError, ValueError, SafetensorError) as error:
        return f"it cannot be read: {error}"
    return ""


def _is_finite(array: np.ndarray) -> bool:
    if array.dtype.kind != "f":
        return True
    rows = max(1, _BLOCK // max(1, array[:1].nbytes))
    return all(bool(np.isfinite(array[start : start + rows]).all()) for start in range(0, len(array), rows))


def _find_place(file: BufferedIOBase, key: str) -> int | None:
    """Where the digest stands in a file of this kind; ``None`` where there is none, or no header."""
    file.seek(0)
    if key.endswith(".npy"):
        try:
            start, length = 0, read_header(file).offset
        except ValueError:
            return None
    elif key.endswith(".safetensors"):
        start, length = 8, int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_LONGEST_HEADER, os.fstat(file.fileno()).st_size - 8):
            return None
    else:
        return None
    file.seek(start)
    found = file.read(length).find(_PLACE)
    return None if found < 0 else start + found + len(_PLACE)
