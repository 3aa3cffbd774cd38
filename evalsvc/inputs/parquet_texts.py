"""Conversion of a Parquet file, or of its text column, to an Arrow stream, in a sandboxed process."""

from __future__ import annotations

import os
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute  # for casts: the sandboxed process cannot import later
import pyarrow.parquet

from evalsvc.core.errors import RefusedError, first_line
from evalsvc.core.files.regular_files import most_unpacked

COLUMN = "text"
ROWS = 128
"""Rows read at a time: one dictionary entry may stand for a million rows."""


def convert_texts(source: BinaryIO, target: BinaryIO) -> None:
    """Read a Parquet file and write its column ``text``.

    Raises:
        RefusedError: the file is damaged, has no such column of strings, contains null, or unpacks to far more than its
            size.
    """
    limit, total, nulls = most_unpacked(os.fstat(source.fileno()).st_size), 0, 0
    try:
        file = pyarrow.parquet.ParquetFile(source, pre_buffer=False)
        _refuse_column(file.schema_arrow)
        with pa.ipc.new_stream(target, pa.schema([(COLUMN, pa.large_string())])) as stream:
            for batch in file.iter_batches(ROWS, columns=[COLUMN], use_threads=False):
                total, nulls = total + batch.nbytes, nulls + batch.column(0).null_count
                if total > limit:
                    raise RefusedError(
                        f"unpacks to more than {limit:,} bytes of text and looks like a decompression bomb"
                    )
                if not nulls:
                    stream.write_batch(pa.record_batch([batch.column(0).cast(pa.large_string())], names=[COLUMN]))
    except MemoryError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RefusedError(f"is not a readable Parquet file ({first_line(error, 160)})") from None
    if nulls:
        raise RefusedError(f"has {nulls} empty cells (null) in column {COLUMN!r}: drop those rows")
    target.flush()


def convert_table(source: BinaryIO, target: BinaryIO) -> None:
    """Read a Parquet file and write all of its columns.

    Raises:
        RefusedError: the file is damaged, or unpacks to far more than its size.
    """
    limit, total = most_unpacked(os.fstat(source.fileno()).st_size), 0
    try:
        file = pyarrow.parquet.ParquetFile(source, pre_buffer=False)
        schema = file.schema_arrow.remove_metadata()
        with pa.ipc.new_stream(target, schema) as stream:
            for batch in file.iter_batches(ROWS, use_threads=False):
                total += batch.nbytes
                if total > limit:
                    raise RefusedError(f"unpacks to more than {limit:,} bytes and looks like a decompression bomb")
                stream.write_batch(batch.cast(schema))
    except MemoryError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RefusedError(f"is not a readable Parquet file ({first_line(error, 160)})") from None
    target.flush()


def _refuse_column(schema: pa.Schema) -> None:
    if COLUMN not in schema.names:
        names = ", ".join(schema.names) or "none"
        raise RefusedError(f"has no column {COLUMN!r} (it has {names}): rename the column with the text")
    kind = schema.field(COLUMN).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise RefusedError(f"has a column {COLUMN!r} of {kind}: convert it to strings")
