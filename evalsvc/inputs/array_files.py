"""Images and videos in array files: ``.npy`` and ``.npz``."""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, Literal

import numpy as np

from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import most_unpacked, open_regular
from evalsvc.inputs.image_arrays import ImageArray, labeled_images, labels_beside
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.videos.arrays import VideoArray

IMAGES = ("images", "arr_0", "x")
"""Names of the image array in an ``.npz``, by priority; by default, its first array is used."""


def open_array(path: Path, reading: ReadingOptions) -> ImageArray | VideoArray:
    """The images or videos of an ``.npz`` or ``.npy``, by its axes; an uncompressed array is memory-mapped."""
    columns: dict[str, Callable[[], np.ndarray]] = {}
    known: list[str] = []
    with _readable(path) as file:
        if path.suffix.lower() == ".npy":
            array = npy_array(path, file)
        else:
            name, headers = _members(path, file, reading.column)
            array, known = _member(path, file, name), ["column", "labels"]
            columns = {
                other: partial(_values, path, other)
                for other, header in headers.items()
                if header.shape == (len(array),) and header.dtype.kind in "biuU" and other != name
            }
    if array.ndim == 5:
        reading.require_only(path, "frames", *known)
        labels = labels_beside(path, columns, reading)
        return VideoArray(path, array, labels.values if labels else None, reading.frames)
    reading.require_only(path, *known, *(["where"] if known else []))
    return labeled_images(path, array, columns, reading)


def npy_array(path: Path, file: BinaryIO) -> np.ndarray:
    """The array of an open ``.npy``, memory-mapped; ``path`` is named in errors."""
    file.seek(0)
    header = _array_header(file)
    _refuse_liar(path, header, os.fstat(file.fileno()).st_size - header.bytes)
    return _mapped(file, header, 0)


@contextmanager
def _readable(path: Path) -> Iterator[BinaryIO]:
    try:
        with open_regular(path) as file:
            yield file
    except (ValueError, TypeError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is not a readable array file ({error})") from None


@dataclass(frozen=True)
class _Header:
    """Header of a ``.npy``, with its length in ``bytes``."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    bytes: int


def _array_header(file: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(file)
    except tokenize.TokenError as error:
        raise ValueError(f"its header cannot be read: {error.args[0]}") from None
    return _Header(tuple(shape), fortran, dtype, file.tell())


def _refuse_liar(path: Path, header: _Header, held: int) -> None:
    if header.dtype.hasobject:
        raise InputError(
            f"{path} contains an array of Python objects, which evalsvc never unpickles: save plain numbers"
        )
    claimed = math.prod(header.shape) * header.dtype.itemsize
    if claimed > held or min(header.shape, default=0) < 0:
        raise InputError(
            f"{path} is truncated: its header declares an array of shape {header.shape} and dtype "
            f"{header.dtype}, but {held:,} bytes follow"
        )


def _mapped(file: BinaryIO, header: _Header, start: int) -> np.ndarray:
    order: Literal["F", "C"] = "F" if header.fortran else "C"
    return np.memmap(file, header.dtype, "r", start + header.bytes, header.shape, order)


def _members(path: Path, file: BinaryIO, column: str) -> tuple[str, dict[str, _Header]]:
    """The name of the array of samples of an ``.npz``, and the headers of all arrays."""
    headers = {}
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                with archive.open(info) as member:
                    headers[info.filename.removesuffix(".npy")] = _array_header(member)
    if column and column not in headers:
        raise InputError(f"{path} has no array {column!r} (it has {', '.join(headers) or 'none'})")
    name = column or next((key for key in IMAGES if key in headers), next(iter(headers), None))
    if name is None:
        raise InputError(f"{path} contains no array")
    return name, headers


def _member(path: Path, file: BinaryIO, name: str) -> np.ndarray:
    """An array of an ``.npz``."""
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo(f"{name}.npy")
        with archive.open(info) as member:
            header = _array_header(member)
        _refuse_liar(path, header, info.file_size - header.bytes)
        if info.compress_type != zipfile.ZIP_STORED:
            _refuse_bomb(path, name, info)
            with archive.open(info) as member:
                return np.asarray(np.lib.format.read_array(member, allow_pickle=False))
    # The bytes of a stored member follow its local header: 30 bytes, the name and the extra field.
    file.seek(info.header_offset + 26)
    lengths = np.frombuffer(file.read(4), "<u2")
    return _mapped(file, header, info.header_offset + 30 + int(lengths.sum()))


def _values(path: Path, name: str) -> np.ndarray:
    with _readable(path) as file:
        return np.array(_member(path, file, name))


def _refuse_bomb(path: Path, name: str, info: zipfile.ZipInfo) -> None:
    way_out = "save it uncompressed with np.savez, so that it can be memory-mapped"
    if info.file_size > most_unpacked(info.compress_size):
        raise InputError(
            f"{path}: array {name!r} would unpack from {info.compress_size:,} to {info.file_size:,} bytes and looks "
            f"like a decompression bomb: {way_out}"
        )
    if info.file_size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2:
        raise InputError(
            f"{path}: array {name!r} has {info.file_size:,} bytes when unpacked, more than half of this "
            f"machine's memory: {way_out}"
        )
