"""Conversion of HDF5 files in a sandboxed process: the list of their arrays, or one array as ``.npy``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import h5py
import numpy as np

from evalsvc.core.errors import RefusedError, first_line

BLOCK = 2**24
"""Bytes that are read at a time."""
MOST_ARRAYS = 1000


def list_arrays(source: BinaryIO, target: BinaryIO) -> None:
    """Write JSON: for each array its shape, type, and place in the file if it is one piece there, else -1.

    Raises:
        RefusedError: the file is damaged, or has too many arrays.
    """
    arrays: dict[str, tuple[list[int], str, int]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            if len(arrays) == MOST_ARRAYS:
                raise RefusedError(f"has more than {MOST_ARRAYS:,} arrays")
            arrays[name] = list(item.shape), _kind(item), _place(item)

    with _readable(source) as file:
        file.visititems(visit)  # which follows no link to another file
        target.write(json.dumps(arrays).encode())
    target.flush()


def convert_array(source: BinaryIO, target: BinaryIO, name: str, room: int) -> None:
    """Write an array as ``.npy``; texts as arrays of Unicode.

    Raises:
        RefusedError: the file is damaged, the array lies in other files, refers to objects, or has more than ``room``
            bytes.
    """
    with _readable(source) as file:
        link = file.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise RefusedError(f"has the array {name!r} in another file: copy it into one file")
        array = file[name]
        if array.is_virtual or array.external:
            raise RefusedError(f"has the array {name!r} in other files: copy it into one file")
        if h5py.check_string_dtype(array.dtype):
            array = np.array(array.asstr()[()], dtype=np.str_)
        elif array.dtype.kind not in "biuf":
            raise RefusedError(f"has an array {name!r} of {array.dtype}: use numbers or texts")
        if array.nbytes > room:
            raise RefusedError(
                f"has an array {name!r} that unpacks to {array.nbytes:,} bytes and looks like a decompression bomb"
            )
        header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
        np.lib.format.write_array_header_1_0(target, header)
        rows = max(1, BLOCK // max(1, array.dtype.itemsize * math.prod(array.shape[1:])))
        for start in range(0, array.shape[0] if array.shape else 0, rows):
            target.write(np.ascontiguousarray(array[start : start + rows]).tobytes())
    target.flush()


def _kind(array: h5py.Dataset) -> str:
    return "str" if h5py.check_string_dtype(array.dtype) else str(array.dtype.str)


def _place(array: h5py.Dataset) -> int:
    offset = None if array.is_virtual or array.external or array.chunks else array.id.get_offset()
    return -1 if offset is None else int(offset)


@contextmanager
def _readable(source: BinaryIO) -> Iterator[h5py.File]:
    try:
        with h5py.File(source, "r") as file:
            yield file
    except (RefusedError, MemoryError):
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise RefusedError(f"is not a readable HDF5 file ({first_line(error, 160)})") from None
