"""Tables of Parquet files, which a sandboxed process converts part by part."""

from __future__ import annotations

import json
import os
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa

from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import most_unpacked
from evalsvc.inputs.tables.cells import FEW, Cells
from evalsvc.inputs.tables.columns import NumberedRows
from evalsvc.inputs.tables.parquet_conversion import GROUPS
from evalsvc.inputs.torch_loader import read_schema, read_table, write_cells

BLOCK = 2**26
"""Bytes of row groups, as the file declares them, that are converted at a time."""
MOST_ROWS = 10**8
"""Largest number of rows, which a damaged file may declare without having them."""
_TRAILER = 9
"""Bytes a row after the contents: its length and whether it is a name."""


class ParquetTable(NumberedRows):
    """The rows of Parquet files with the same columns, one after the other."""

    def __init__(self, files: Sequence[Path], folder: Path | None) -> None:
        self._files, self._folder = files, folder
        schemas = [read_schema(file) for file in files]
        self.schema: pa.Schema = schemas[0]
        try:  # of a process that a file may have compromised
            facts = [json.loads(schema.metadata[GROUPS]) for schema in schemas]
            self._groups = [[(int(rows), int(size)) for rows, size in each["groups"]] for each in facts]
            self._nulls = [{str(name): int(count) for name, count in each["nulls"].items()} for each in facts]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{files[0]} was converted to an invalid schema ({error})") from None
        if min((rows for groups in self._groups for rows, _ in groups), default=0) < 0 or len(self) > MOST_ROWS:
            raise InputError(f"{files[0]} declares more than {MOST_ROWS:,} rows: use a part of them")
        for file, schema in zip(files, schemas, strict=True):
            if not schema.equals(schemas[0]):
                raise InputError(f"{file} has other columns than {files[0]}: use files with the same columns")

    def __len__(self) -> int:
        return sum(rows for groups in self._groups for rows, _ in groups)

    def values(self, column: str) -> pa.ChunkedArray:
        """The values of a column, in memory."""
        return pa.concat_tables([read_table(file, [column]) for file in self._files]).column(0)

    def nulls(self, column: str) -> int:
        """Number of empty cells of a column or field (``image.bytes``); -1 if a file does not say it."""
        every = [each.get(column, -1) for each in self._nulls]
        return sum(every) if min(every) >= 0 else -1

    def cells(self, column: str) -> Cells:
        """The contents of a column of texts, bytes or ``{bytes, path}``."""
        return ParquetCells(self._files, self._groups, column, self._folder)

    def few(self, column: str) -> list[bytes]:
        """The contents of the first rows of a column that are not empty, or the names of their files."""
        for file, groups in zip(self._files, self._groups, strict=True):
            if not (rows := min(FEW, sum(rows for rows, _ in groups))):
                continue
            with _temporary() as written:
                write_cells(file, written, column, (0, len(groups)), most_unpacked(0), rows)
                lengths, _ = _written(written, rows, file)
                sizes = lengths.clip(0)
                starts = np.cumsum(sizes) - sizes
                places = zip(starts.tolist(), sizes.tolist(), strict=True)
                return [os.pread(written.fileno(), size, start) for start, size in places if size]
        return []


class ParquetCells(Cells):
    """Contents that are converted to an unnamed temporary file when their row group is first read."""

    def __init__(
        self, files: Sequence[Path], groups: Sequence[Sequence[tuple[int, int]]], column: str, folder: Path | None
    ) -> None:
        self._paths, self._column = files, column
        flat = [(number, i, *each) for number, of in enumerate(groups) for i, each in enumerate(of)]
        self._file_of_group, self._place, rows, self._bytes = np.array(flat, np.int64).reshape(-1, 4).T
        self._firsts: list[int] = [0, *np.cumsum(rows).tolist()]
        self._known = np.zeros(len(flat), bool)
        self._room = most_unpacked(sum(file.stat().st_size for file in files))
        self._end = 0
        n = self._firsts[-1]
        super().__init__(
            [lambda: self._spool], [n], np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, bool), folder
        )

    def read(self, row: int) -> bytes:
        """The content of a row; the first read of a row group converts it and some that follow."""
        group = bisect_right(self._firsts, row) - 1
        if not self._known[group]:
            self._convert(group)
        return super().read(row)

    @cached_property
    def _spool(self) -> BinaryIO:
        return _temporary()

    def _convert(self, first: int) -> None:
        file, last = self._file_of_group[first], first
        while (
            last < len(self._known)
            and not self._known[last]
            and self._file_of_group[last] == file
            and (last == first or self._bytes[first : last + 1].sum() <= BLOCK)
        ):
            last += 1
        path, rows = self._paths[file], slice(self._firsts[first], self._firsts[last])
        groups = int(self._place[first]), int(self._place[last - 1]) + 1
        self._spool.seek(self._end)
        write_cells(path, self._spool, self._column, groups, self._room - self._end, rows.stop - rows.start)
        lengths, named = _written(self._spool, rows.stop - rows.start, path)
        sizes = lengths.clip(0)
        self._lengths[rows], self._named[rows] = lengths, named
        self._starts[rows] = self._end + np.cumsum(sizes) - sizes
        self._end += int(sizes.sum())
        self._spool.truncate(self._end)
        self._known[first:last] = True


def _temporary() -> BinaryIO:
    """A file without a name, in the folder of temporary files."""
    return cast(BinaryIO, tempfile.TemporaryFile(buffering=0))


def _written(file: BinaryIO, rows: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Lengths and kinds of appended cells, written by a process that ``path`` may have compromised."""
    size = os.fstat(file.fileno()).st_size
    trailer = os.pread(file.fileno(), rows * _TRAILER, max(0, size - rows * _TRAILER))
    lengths = np.frombuffer(trailer[: rows * 8], np.int64)
    if len(trailer) < rows * _TRAILER or lengths.max(initial=0) > size:
        raise InputError(f"{path} was converted to invalid cells")
    return lengths, np.frombuffer(trailer[rows * 8 :], bool)
