"""Checksums of artifacts: sha256 over the key and all bytes, stored in the headers of arrays.

The key is included, so that a file under the wrong name is detected like a damaged one. The digest is in the header, so
that a file and its digest appear atomically.
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
"""Text before the digest, both in the JSON of a safetensors header and in the comment of an ``.npy`` header."""
_BLOCK = 1 << 20
_LONGEST_HEADER = 100_000_000
_TICK = 50_000_000
"""Nanoseconds. A file that was modified less than this before it was read may change again under the same stamp."""


@dataclass(frozen=True)
class Stamp:
    """Identity and modification time of a file; ``read_at`` is the time of the stamp (ns)."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int
    read_at: int = 0

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        """The current stamp of a file."""
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, time.time_ns())

    def covers(self, other: Stamp) -> bool:
        """Whether a file with the ``other`` stamp has the same content as under this stamp."""
        settled = abs(self.read_at - max(self.modified, self.changed)) > _TICK
        return settled and self._facts == other._facts

    def is_overwritten(self, other: Stamp) -> bool:
        """Whether the ``other`` stamp belongs to the same file after it was modified."""
        same = (self.device, self.inode) == (other.device, other.inode)
        return same and (self.size, self.modified) != (other.size, other.modified)

    @property
    def _facts(self) -> tuple[int, ...]:
        return self.device, self.inode, self.size, self.modified, self.changed


def sign(path: Path, key: str) -> bool:
    """Write the digest of a file into its header; return whether the header has a place for it."""
    with path.open("r+b") as file:
        place = _find_place(file, key)
        if place is None:
            return False
        digest = digest_of(file, key)
        file.seek(place)
        file.write(digest.encode())
        return True


def own_digest(file: BufferedIOBase, key: str) -> str | None:
    """The digest in a file's header, or ``None`` if it has no digest or no header."""
    place = _find_place(file, key)
    if place is None:
        return None
    file.seek(place)
    return file.read(len(BLANK)).decode(errors="replace")


def digest_of(file: BufferedIOBase, key: str) -> str:
    """sha256 over the key and the content with the digest blanked out. Reads 1 MiB at a time."""
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
    """Why a file without a digest cannot be intact: it is truncated or contains non-finite values."""
    try:
        if key.endswith(".npy"):
            header = read_header(file)
            if os.fstat(file.fileno()).st_size != header.offset + header.bytes:
                return "it is truncated"
            array = np.memmap(file, header.dtype, "r", header.offset, header.shape)
            return "" if _is_finite(array) else "it contains values that are not finite"
        if key.endswith(".safetensors"):
            with safe_open(path, framework="numpy") as tensors:
                finite = all(_is_finite(tensors.get_tensor(name)) for name in tensors.keys())  # noqa: SIM118
            return "" if finite else "it contains values that are not finite"
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
    """Offset of the digest in a file of this kind, or ``None`` if it has no digest or no header."""
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
    position = file.read(length).find(_PLACE)
    return None if position < 0 else start + position + len(_PLACE)
