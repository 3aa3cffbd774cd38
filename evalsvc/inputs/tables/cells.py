"""Contents of the rows of a column, by their places in files: an index in NumPy, and no list of objects."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Bool, Int64

from evalsvc.core.files.regular_files import open_regular
from evalsvc.inputs.images.decoding import MAX_BYTES
from evalsvc.inputs.items.cells import CellError
from evalsvc.inputs.items.media import beside

FEW = 16
"""Rows from which the kind of a column is recognized."""
MOST_OPEN = 64
"""Number of files that are kept open."""


class Cells:
    """Row i has ``lengths[i]`` bytes from ``starts[i]`` on in its file; -1 if it is empty.

    ``ends[k]`` is the number of rows in the files up to number k. Where ``named``, the bytes are the name of a file
    below ``folder``, whose content counts; without a folder, names are refused.
    """

    def __init__(
        self,
        files: Sequence[Callable[[], BinaryIO]],
        ends: Sequence[int],
        starts: Int64[np.ndarray, " n"],
        lengths: Int64[np.ndarray, " n"],
        named: Bool[np.ndarray, " n"],
        folder: Path | None,
    ) -> None:
        self._files, self._ends, self._folder = files, ends, folder
        self._starts, self._lengths, self._named = starts, lengths, named
        self._open: dict[int, BinaryIO] = {}

    def __len__(self) -> int:
        return len(self._lengths)

    def read(self, row: int) -> bytes:
        """The content of a row.

        Raises:
            CellError: it is empty, too large, or names a file that is missing or may not be read.
        """
        length = int(self._lengths[row])
        if length < 0:
            raise CellError("it is empty (null)")
        if length > MAX_BYTES:
            raise CellError(f"it has more than {MAX_BYTES:,} bytes")
        content = self._stored(row)
        return self._of_file(content) if self._named[row] else content

    def few(self) -> list[bytes]:
        """The contents of the first rows that are not empty, or the names of their files."""
        rows = [row for row in range(min(FEW, len(self))) if 0 < self._lengths[row] <= MAX_BYTES]
        return [self._stored(row) for row in rows]

    def _stored(self, row: int) -> bytes:
        length = int(self._lengths[row])
        content = os.pread(self._file_of(row).fileno(), length, int(self._starts[row]))
        if len(content) < length:
            raise CellError("its file is truncated")
        return content

    def _of_file(self, content: bytes) -> bytes:
        name = content.decode(errors="replace")
        if self._folder is None:
            raise CellError(f"it names the file {name[:100]!r}: pass the folder with its files, and the option column")
        with open_regular(beside(self._folder, name)) as file:
            return file.read()

    def _file_of(self, row: int) -> BinaryIO:
        part = bisect_right(self._ends, row)
        if part not in self._open:
            if len(self._open) == MOST_OPEN:
                self._open.clear()
            self._open[part] = self._files[part]()
        return self._open[part]
