"""Images and videos in array files: ``.npy`` and ``.npz``."""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Literal

import numpy as np

from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import most_unpacked, open_regular
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.videos.arrays import VideoArray
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Images

IMAGES = ("images", "arr_0", "x")
"""Names of the image array in an ``.npz``, by priority; by default, its first array is used."""

LABELS = ("labels", "label", "y", "arr_1")
"""Names of the array of class labels in an ``.npz``, by priority."""


class ImageArray:
    """Images in one uint8 array (n, h, w), (n, h, w, c) or (n, c, h, w) with one or three channels."""

    modality: Modality = "image"

    def __init__(self, path: Path, array: np.ndarray, labels: np.ndarray | None = None) -> None:
        if array.ndim == 3:
            array = array[:, None]
        elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
            array = array.transpose(0, 3, 1, 2)
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1] not in (1, 3) or not array.size:
            raise InputError(
                f"{path} contains an array of dtype {array.dtype} and shape {array.shape}, expected uint8 images "
                "(n, h, w, c)"
            )
        self._path, self._array = path, array
        self.labels = np.full(len(array), -1) if labels is None else labels

    def __len__(self) -> int:
        return len(self._array)

    def digest(self) -> str:
        """sha256 of the current content of the file."""
        return digest_path(self._path)

    def read(self, start: int, stop: int) -> Images:
        """Images ``start`` to ``stop``, copied from the file."""
        return Images(torch.from_numpy(np.array(self._array[start:stop])))

    def read_at(self, indices: Sequence[int]) -> Images:
        """The images at these indices, copied from the file."""
        return Images(torch.from_numpy(np.ascontiguousarray(self._array[np.asarray(indices, np.int64)])))


def open_array(path: Path, reading: ReadingOptions) -> ImageArray | VideoArray:
    """The images or videos of an ``.npz`` or ``.npy``, by its axes; an uncompressed array is memory-mapped."""
    try:
        with open_regular(path) as file:
            if path.suffix.lower() == ".npy":
                header = _array_header(file)
                _refuse_liar(path, header, os.fstat(file.fileno()).st_size - header.bytes)
                return _samples(path, _mapped(file, header, 0), None, reading)
            array = _archived(path, file)
            return _samples(path, array, _labels(path, file, len(array)), reading)
    except (ValueError, TypeError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is not a readable array file ({error})") from None


def _samples(
    path: Path, array: np.ndarray, labels: np.ndarray | None, reading: ReadingOptions
) -> ImageArray | VideoArray:
    if array.ndim == 5:
        reading.require_only(path, "frames")
        return VideoArray(path, array, labels, reading.frames)
    reading.require_only(path)
    return ImageArray(path, array, labels)


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


def _archived(path: Path, file: BinaryIO) -> np.ndarray:
    """The image array of an ``.npz``."""
    with zipfile.ZipFile(file) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        named = {info.filename.removesuffix(".npy"): info for info in members}
        name = next((key for key in IMAGES if key in named), next(iter(named), None))
        if name is None:
            raise InputError(f"{path} contains no array")
        info = named[name]
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


def _labels(path: Path, file: BinaryIO, count: int) -> np.ndarray | None:
    """The class labels beside the images of an ``.npz``: an array of ``count`` integers, if there is one."""
    with zipfile.ZipFile(file) as archive:
        for name in LABELS:
            if f"{name}.npy" not in archive.namelist():
                continue
            with archive.open(f"{name}.npy") as member:
                header = _array_header(member)
            if header.dtype.kind not in "iu" or header.shape != (count,):
                continue
            _refuse_liar(path, header, archive.getinfo(f"{name}.npy").file_size - header.bytes)
            with archive.open(f"{name}.npy") as member:
                return np.lib.format.read_array(member, allow_pickle=False).astype(np.int64)
    return None


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
