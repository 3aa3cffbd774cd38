"""Opening of tables as sample sets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from evalsvc.core.digests import digest_files, digest_path, walk
from evalsvc.core.errors import InputError
from evalsvc.core.files.system_files import is_system_file
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.tables.archives import TarTable
from evalsvc.inputs.tables.arrow import ArrowTable
from evalsvc.inputs.tables.columns import Table, column_of_samples, is_text, may_name, modality_of_column
from evalsvc.inputs.tables.folders import parquet_files, saved_files, tar_files
from evalsvc.inputs.tables.labels import column_of_labels
from evalsvc.inputs.tables.parquet import ParquetTable
from evalsvc.inputs.tables.rows import TableRows
from evalsvc.inputs.tables.samples import ImageRows, TextRows
from evalsvc.inputs.tables.sounds import SoundRows
from evalsvc.plugins.interfaces import SampleSet

SUFFIXES = frozenset({".parquet", ".arrow", ".tar"})


def open_table(path: Path, skip: Collection[str], reading: ReadingOptions) -> SampleSet:
    """The samples of a column of a Parquet, Arrow or tar file, or of a folder of them.

    Raises:
        InputError: a file is damaged, there is no such column, split or row, or the options are of another format.
    """
    files, folder = _files(path, reading.split), path if path.is_dir() else None
    table = _table(files, folder, reading)
    if not len(table):
        raise InputError(f"{path} contains no rows")
    column = column_of_samples(path, table.schema, reading)
    column_of_labels(path, table, reading)
    modality = modality_of_column(path, table, column)
    by_name = not isinstance(table, TarTable) and modality != "text" and is_text(table.schema.field(column).type)
    if by_name and folder is None:
        raise InputError(f"{path} names files in column {column!r}: pass its folder, with the option column={column}")
    digest = _digest(path, [] if by_name or may_name(table, column) or not reading.split else files)
    rows = TableRows(path, table, column, reading, skip, digest, folder if by_name else None)
    others = [*(["split"] if folder else []), *(["rate"] if modality == "audio" else [])]
    reading.require_only(path, "column", "labels", "where", *others)
    if modality == "text":
        if (nulls := table.nulls(column)) > 0 and not reading.where:
            raise InputError(f"{path} has {nulls} empty cells (null) in column {column!r}: drop those rows")
        return TextRows(rows)
    return SoundRows(rows, reading.rate) if modality == "audio" else ImageRows(rows)


def _files(path: Path, split: str) -> Sequence[Path]:
    if path.is_dir():
        if files := saved_files(path, split) or parquet_files(path, split) or tar_files(path, split):
            return files
        raise InputError(f"{path} contains no table: pass a folder with .arrow, .parquet or .tar files")
    if split:
        raise InputError(f"option split applies to folders of datasets, and {path} is a file: omit it")
    return [path]


def _table(files: Sequence[Path], folder: Path | None, reading: ReadingOptions) -> Table:
    match files[0].suffix.lower():
        case ".arrow":
            return ArrowTable(files, folder)
        case ".tar":
            return TarTable(files, reading.column)
        case _:
            return ParquetTable(files, folder)


def _digest(path: Path, files: Sequence[Path]) -> Callable[[], str]:
    """The digest of a file, of these files of a folder, or of all of its files."""
    if not path.is_dir():
        return lambda: digest_path(path)
    names = [file.relative_to(path).as_posix() for file in files]
    return lambda: digest_files(path, names or walk(path, exclude_files=is_system_file))
