"""Matrices as ``.npy`` files: written block by block, read through memory maps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any, BinaryIO

import numpy as np

from evalsvc.core.errors import StorageError, first_line

DIGEST = "evalsvc.sha256"
"""Name of a file's digest in its own header."""
BLANK = "0" * 64
"""Placeholder for the digest until it is known."""
_MAGIC = b"\x93NUMPY\x01\x00"


@dataclass(frozen=True)
class Header:
    """Header of an ``.npy`` file, and the offset of its rows in bytes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @property
    def bytes(self) -> int:
        """Size of the rows in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class MatrixWriter:
    """An ``.npy`` file under a temporary name, filled row by row.

    Uses writes and not a memory map: on a full disk, a write raises, whereas a map causes a bus error.
    """

    def __init__(self, file: BinaryIO, rows: int) -> None:
        self._file, self._rows, self._filled = file, rows, 0
        self._row: tuple[np.dtype[Any], tuple[int, ...]] | None = None

    def append(self, block: np.ndarray) -> None:
        """Append rows."""
        row = block.dtype, block.shape[1:]
        if self._row is None:
            self._row = row
            self._file.write(_header(block.dtype, (self._rows, *block.shape[1:])))
        if row != self._row:
            raise StorageError(f"{self._file.name}: rows of different shapes, {self._row} and {row}")
        self._file.write(np.ascontiguousarray(block).data)
        self._filled += len(block)

    def finish(self) -> None:
        """Complete the file; raises if rows are missing."""
        if self._filled != self._rows:
            raise StorageError(f"{self._file.name} has {self._filled} rows, expected {self._rows}")


def read_header(file: BufferedIOBase) -> Header:
    """Read the header of an ``.npy`` file.

    Raises:
        ValueError: the header is missing, or the matrix is not stored row by row.
    """
    file.seek(0)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception as error:  # NumPy's reader raises errors of many types for damaged files
        raise ValueError(first_line(error, 80)) from None
    if fortran or dtype.hasobject or not shape or min(shape) < 0:
        raise ValueError("it is not a matrix stored row by row")
    return Header(dtype, shape, file.tell())


def map_matrix(file: BufferedIOBase) -> np.ndarray:
    """Map the rows of an ``.npy`` file into memory.

    Raises:
        ValueError: it is not an ``.npy`` file, or is truncated.
    """
    header = read_header(file)
    return np.asarray(np.memmap(file, header.dtype, "r", header.offset, header.shape))


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    text = f'{facts!r}  # "{DIGEST}":"{BLANK}"'  # NumPy's reader ignores the comment
    text += " " * (-(len(_MAGIC) + 2 + len(text) + 1) % 64) + "\n"
    return _MAGIC + len(text).to_bytes(2, "little") + text.encode()
