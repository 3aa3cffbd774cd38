"""Images in one array, with columns of labels beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.tables.conditions import rows_where
from evalsvc.inputs.tables.labels import Labels, numbered
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Images

LABELS = ("labels", "label", "y", "arr_1")
"""Names of the array of class labels, by priority."""


class ImageArray:
    """Images in one uint8 array (n, h, w), (n, h, w, c) or (n, c, h, w) with one or three channels.

    ``rows`` are those that are samples, all by default; ``labels`` are of all rows.
    """

    modality: Modality = "image"

    def __init__(
        self,
        path: Path,
        array: Any,
        labels: Labels | None = None,
        rows: Int64[np.ndarray, " k"] | None = None,
        digest: Callable[[], str] | None = None,
    ) -> None:
        channels_last = array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3)
        good = array.ndim == 3 or channels_last or (array.ndim == 4 and array.shape[1] in (1, 3))
        if array.dtype != np.uint8 or not good or 0 in array.shape:
            floats = ": floats have no known range, so save (x * 255).round().astype('uint8')"
            raise InputError(
                f"{path} contains an array of dtype {array.dtype} and shape {array.shape}, expected uint8 images "
                f"(n, h, w, c){floats if array.dtype.kind == 'f' else ''}"
            )
        self._array, self._channels_last, self._rows = array, channels_last, rows
        all_labels = Labels(np.full(len(array), -1)) if labels is None else labels
        self.labels = all_labels.values if rows is None else all_labels.values[rows]
        self.classes = all_labels.classes
        self._digest = digest or (lambda: digest_path(path))

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """sha256 of the current content of the files."""
        return self._digest()

    def read(self, start: int, stop: int) -> Images:
        """Images ``start`` to ``stop``, copied from the file."""
        if self._rows is None:
            return self._images(self._array[start:stop])
        return self._images(self._array[self._rows[start:stop]])

    def read_at(self, indices: Sequence[int]) -> Images:
        """The images at these indices, copied from the file."""
        places = np.asarray(indices, np.int64)
        return self._images(self._array[places if self._rows is None else self._rows[places]])

    def _images(self, pixels: np.ndarray) -> Images:
        if pixels.ndim == 3:
            pixels = pixels[:, None]
        elif self._channels_last:
            pixels = pixels.transpose(0, 3, 1, 2)
        return Images(torch.from_numpy(np.array(pixels, order="C")))


Columns = Mapping[str, Callable[[], np.ndarray]]
"""Read arrays of as many numbers or texts as there are samples."""


def labeled_images(
    path: Path,
    array: Any,
    columns: Columns,
    reading: ReadingOptions,
    classes: Mapping[str, Sequence[str]] | None = None,
    digest: Callable[[], str] | None = None,
) -> ImageArray:
    """The images of an array that meet the conditions, with the labels that the options name.

    ``classes`` are the names of the values of columns.

    Raises:
        InputError: there is no such column, or it has no labels; no image is left.
    """
    named = classes or {}
    rows = None
    if reading.where:
        rows = rows_where(path, len(array), reading.where, lambda name: _values(path, columns, name, named))
    return ImageArray(path, array, labels_beside(path, columns, reading, named), rows, digest)


def labels_beside(
    path: Path, columns: Columns, reading: ReadingOptions, classes: Mapping[str, Sequence[str]] | None = None
) -> Labels | None:
    """The labels in the column that the options name, or in one that is called so; ``None`` if there is none."""
    name = reading.labels or next((each for each in LABELS if each in columns), None)
    return None if name is None else numbered(path, name, *_values(path, columns, name, classes or {}))


def _values(
    path: Path, columns: Columns, name: str, classes: Mapping[str, Sequence[str]]
) -> tuple[pa.ChunkedArray, Sequence[str]]:
    if name not in columns:
        raise InputError(f"{path} has no column {name!r} beside its samples (it has {', '.join(columns) or 'none'})")
    return pa.chunked_array([pa.array(columns[name]())]), classes.get(name, ())
