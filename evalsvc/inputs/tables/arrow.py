"""Tables of Arrow files, such as ``datasets`` saves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa

from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import open_regular, require_regular
from evalsvc.inputs.tables.cells import Cells
from evalsvc.inputs.tables.columns import NumberedRows


class ArrowTable(NumberedRows):
    """The rows of memory-mapped Arrow files with the same columns, one after the other."""

    def __init__(self, files: Sequence[Path], folder: Path | None) -> None:
        self._files, self._folder = files, folder
        self._mapped = [_map(file) for file in files]
        self._tables = [table for table, _, _ in self._mapped]
        self.schema: pa.Schema = self._tables[0].schema
        for file, table in zip(files, self._tables, strict=True):
            if not table.schema.equals(self.schema):
                raise InputError(f"{file} has other columns than {files[0]}: use files with the same columns")

    def __len__(self) -> int:
        return sum(table.num_rows for table in self._tables)

    def values(self, column: str) -> pa.ChunkedArray:
        """The values of a column, mapped."""
        return pa.concat_tables(self._tables).column(column)

    def nulls(self, column: str) -> int:
        """Number of empty cells of a column or field (``image.bytes``)."""
        name, _, field = column.partition(".")
        return sum(
            (chunk.field(field) if field else chunk).null_count
            for table in self._tables
            for chunk in table.column(name).chunks
        )

    def cells(self, column: str) -> Cells:
        """The contents of a column of texts, bytes or ``{bytes, path}``."""
        parts = [
            _places(chunk, base, size, file)
            for file, (table, base, size) in zip(self._files, self._mapped, strict=True)
            for chunk in table.column(column).chunks
        ]
        starts, lengths, named = (np.concatenate(each) for each in zip(_NONE, *parts, strict=True))
        ends = list(accumulate(table.num_rows for table in self._tables))
        return Cells([partial(open_regular, file) for file in self._files], ends, starts, lengths, named, self._folder)

    def few(self, column: str) -> list[bytes]:
        """The contents of the first rows of a column that are not empty, or the names of their files."""
        return self.cells(column).few()


_NONE = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))


def open_arrow(file: Path) -> pa.Table:
    """The table of an Arrow file, memory-mapped; ``datasets`` writes streams, and other tools write files."""
    return _map(file)[0]


def _map(file: Path) -> tuple[pa.Table, int, int]:
    """A table, and address and size of the memory to which its file is mapped."""
    try:
        require_regular(file)
        source = pa.memory_map(str(file))
        try:
            table = pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)  # offsets of a damaged file point outside of it
        source.seek(0)
        return table, source.read_buffer().address, source.size()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} is not a readable Arrow file ({error})") from None


def _places(cells: pa.Array, base: int, size: int, file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the contents of cells begin in their mapped file, their lengths, and which of them are names."""
    if pa.types.is_struct(cells.type):
        fields = dict(zip((field.name for field in cells.type), cells.flatten(), strict=True))
        starts, lengths, named = _places(fields["bytes"], base, size, file)
        if "path" not in fields:
            return starts, lengths, named
        path_starts, path_lengths, _ = _places(fields["path"], base, size, file)
        named = (lengths < 0) & (path_lengths >= 0)
        return np.where(named, path_starts, starts), np.where(named, path_lengths, lengths), named
    _, offsets, data = cells.buffers()
    kind = np.int64 if pa.types.is_large_string(cells.type) or pa.types.is_large_binary(cells.type) else np.int32
    ends = np.frombuffer(offsets, kind)[cells.offset :][: len(cells) + 1].astype(np.int64)
    start = data.address - base if data else 0
    if len(cells) and not 0 <= start + ends[0] <= start + ends[-1] <= size:
        raise InputError(f"{file} is compressed within: save it without compression, or as Parquet")
    lengths = np.where(cells.is_null(), -1, np.diff(ends))
    return start + ends[:-1], lengths, np.zeros(len(cells), bool)
