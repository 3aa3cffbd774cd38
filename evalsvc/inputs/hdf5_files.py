"""Images in HDF5 files, which a sandboxed process reads."""

from __future__ import annotations

import importlib.util
import math
import tempfile
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import most_unpacked, open_regular
from evalsvc.inputs.array_files import npy_array
from evalsvc.inputs.image_arrays import ImageArray, labeled_images
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.torch_loader import read_hdf5_array, read_hdf5_list

SUFFIXES = frozenset({".h5", ".hdf5", ".hdf"})
IMAGES = ("images", "image", "x", "data")
"""Names of the array of images, by priority; by default, the only one of images."""


def open_hdf5(path: Path, reading: ReadingOptions) -> ImageArray:
    """The images of one array, with labels in another.

    Raises:
        InputError: h5py is not installed, the file is damaged, or there is no such array.
    """
    if importlib.util.find_spec("h5py") is None:
        raise InputError(f"{path} needs a reader of HDF5: install it with pip install 'evalsvc[hdf5]'")
    reading.require_only(path, "column", "labels", "where")
    try:
        arrays = {name: _Array(path, name, *facts) for name, facts in read_hdf5_list(path).items()}
    except (ValueError, TypeError, AttributeError) as error:  # of a process that the file may have compromised
        raise InputError(f"{path} was converted to an invalid list ({error})") from None
    name = reading.column or _of_images(path, arrays)
    if name not in arrays:
        raise InputError(f"{path} has no array {name!r} (it has {', '.join(list(arrays)[:20]) or 'none'})")
    array = arrays[name]
    if array.kind != "str" and (size := math.prod(array.shape) * array.dtype.itemsize) > _most(path):
        raise InputError(
            f"{path} has an array {name!r} that unpacks to {size:,} bytes and looks like a decompression bomb"
        )
    columns = {
        other: partial(each.__getitem__, slice(None))
        for other, each in arrays.items()
        if other != name and each.shape == array.shape[:1] and (each.kind == "str" or each.dtype.kind in "biu")
    }
    return labeled_images(path, array, columns, reading)


def _most(path: Path) -> int:
    return most_unpacked(path.stat().st_size)


def _of_images(path: Path, arrays: dict[str, _Array]) -> str:
    images = [name for name, each in arrays.items() if each.kind == "|u1" and each.ndim in (3, 4)]
    named = [name for name in IMAGES if name in images] or images
    if len(images) == 1 or named != images:
        return named[0]
    listed = ", ".join(list(arrays)[:20]) or "none"
    raise InputError(
        f"{path} has {'several arrays' if images else 'no array'} of uint8 images (it has {listed}): name one with the "
        "option column"
    )


class _Array:
    """An array of a file: mapped where it is one piece, else converted to an unnamed file when it is first read."""

    def __init__(self, path: Path, name: str, shape: Any, kind: Any, place: Any) -> None:
        self._path, self._name, self._place = path, name, int(place)
        self.shape, self.kind = tuple(map(int, shape)), str(kind)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(object if kind == "str" else kind)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.array(self._values[rows])

    @cached_property
    def _values(self) -> np.ndarray:
        size = self._path.stat().st_size
        plain = self.dtype.kind in "biuf"  # never objects, which are addresses in memory
        if plain and self._place > 0 and self._place + math.prod(self.shape) * self.dtype.itemsize <= size:
            with open_regular(self._path) as file:
                return np.memmap(file, self.dtype, "r", self._place, self.shape)
        with tempfile.TemporaryFile() as written:
            read_hdf5_array(self._path, written, self._name, _most(self._path))
            try:
                return npy_array(self._path, written)
            except (ValueError, TypeError, EOFError) as error:  # of a process that the file may have compromised
                raise InputError(f"{self._path} was converted to an invalid array ({error})") from None
