"""Conversion of Parquet files in a sandboxed process: their schema, some columns, or the contents of one column."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc  # for casts too: the sandboxed process cannot import later
import pyarrow.parquet

from evalsvc.core.errors import RefusedError, first_line
from evalsvc.core.files.regular_files import most_unpacked

ROWS = 128
"""Rows read at a time: one dictionary entry may stand for a million rows."""
BUFFER = 2**20
"""Bytes of a column that are read at a time: a column of a file may be larger than memory."""
FEATURES, GROUPS = b"huggingface", b"evalsvc"
"""Keys of the metadata of :func:`convert_schema`: what ``datasets`` says of columns, and the groups of rows."""


def convert_schema(source: BinaryIO, target: BinaryIO) -> None:
    """Write a table without rows; its metadata has the rows and bytes of each group, and the empty cells of columns,
    -1 where their number is not known.
    """
    with _readable(source) as file:
        schema, metadata = file.schema_arrow, file.metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        nulls: dict[str, int] = {}
        for column in (group.column(i) for group in groups for i in range(group.num_columns)):
            known, name = column.statistics and column.statistics.has_null_count, column.path_in_schema
            before = nulls.get(name, 0)
            nulls[name] = before + column.statistics.null_count if known and before >= 0 else -1
        facts = json.dumps({"groups": [[each.num_rows, each.total_byte_size] for each in groups], "nulls": nulls})
        known = {GROUPS: facts} | {key: value for key, value in (schema.metadata or {}).items() if key == FEATURES}
        with pa.ipc.new_stream(target, schema.remove_metadata().with_metadata(known)):
            pass
    target.flush()


def convert_table(source: BinaryIO, target: BinaryIO, columns: Sequence[str] | None = None) -> None:
    """Write these columns, or all, as a stream of Arrow.

    Raises:
        RefusedError: the file is damaged, or unpacks to far more than its size.
    """
    limit, total = most_unpacked(os.fstat(source.fileno()).st_size), 0
    with _readable(source) as file:
        schema = file.schema_arrow.remove_metadata()
        schema = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        with pa.ipc.new_stream(target, schema) as stream:
            for batch in file.iter_batches(ROWS, columns=columns, use_threads=False):
                total += batch.nbytes
                if total > limit:
                    raise _bomb(limit)
                stream.write_batch(batch.select(schema.names).cast(schema))
    target.flush()


def convert_cells(
    source: BinaryIO, target: BinaryIO, column: str, groups: tuple[int, int], room: int, rows: int
) -> None:
    """Append the contents of a column of texts, bytes, or ``{bytes, path}`` in the row groups of a range.

    After all contents follow their lengths (int64, -1 for an empty cell), and one byte each: whether it is the path of
    a file in place of its content. At most ``rows`` rows are read, and at most ``room`` bytes written.

    Raises:
        RefusedError: the file is damaged, or unpacks to more.
    """
    lengths, named, total = [np.zeros(0, np.int64)], [np.zeros(0, bool)], 0
    with _readable(source) as file:
        batches = file.iter_batches(min(rows, ROWS), row_groups=range(*groups), columns=[column], use_threads=False)
        for batch in batches:
            contents, is_path = _contents(batch.column(0)[:rows])
            offsets = np.frombuffer(contents.buffers()[1], np.int64)[contents.offset :][: len(contents) + 1]
            total += int(offsets[-1] - offsets[0])
            if total > room:
                raise _bomb(room)
            if total:
                target.write(memoryview(contents.buffers()[2])[offsets[0] : offsets[-1]])
            lengths.append(np.where(contents.is_null(), -1, np.diff(offsets)))
            named.append(is_path)
            rows -= len(contents)
            if rows <= 0:
                break
        target.write(np.concatenate(lengths).tobytes() + np.concatenate(named).tobytes())
        target.flush()


def _contents(cells: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The contents of cells as large binary, and which of them are paths."""
    if not pa.types.is_struct(cells.type):
        return _binary(cells), np.zeros(len(cells), bool)
    fields = dict(zip((field.name for field in cells.type), cells.flatten(), strict=True))
    content = _binary(fields["bytes"])
    if "path" not in fields:
        return content, np.zeros(len(cells), bool)
    path = _binary(fields["path"])
    named = pc.and_(content.is_null(), path.is_valid()).to_numpy(zero_copy_only=False)
    return (pc.coalesce(content, path) if named.any() else content), named


def _binary(cells: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    return cells.cast(pa.large_binary())


@contextmanager
def _readable(source: BinaryIO) -> Iterator[pyarrow.parquet.ParquetFile]:
    try:
        yield pyarrow.parquet.ParquetFile(source, pre_buffer=False, buffer_size=BUFFER)
    except MemoryError:
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise RefusedError(
                "does not fit into the folder of temporary files: set TMPDIR to one with more room"
            ) from None
        raise _unreadable(error) from None
    except (ValueError, KeyError, pa.ArrowException) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> RefusedError:
    return RefusedError(f"is not a readable Parquet file ({first_line(error, 160)})")


def _bomb(limit: int) -> RefusedError:
    return RefusedError(f"unpacks to more than {limit:,} bytes and looks like a decompression bomb")
