"""Rows of an item file, in any of its formats, with the place of each row for errors."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from evalsvc.core.errors import InputError, first_line, one_line
from evalsvc.core.files.regular_files import open_regular
from evalsvc.inputs.items.schema import PROMPT
from evalsvc.inputs.items.splits import files_of_split
from evalsvc.inputs.tables.arrow import open_arrow
from evalsvc.inputs.tables.folders import saved_files
from evalsvc.inputs.torch_loader import read_table

MOST_ITEMS = 1_000_000
"""Largest number of rows."""
LARGEST = 2**28
"""Largest size of a file of texts, in bytes."""
LONGEST_CELL = 2**24
"""Most characters of a cell of a .csv or .tsv."""


@dataclass(frozen=True)
class Table:
    """Rows of a file: ``places`` name each of them in errors (``parti.tsv, line 3``)."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    places: tuple[str, ...]


def read_rows(path: Path, split: str = "") -> Table:
    """Read the rows of a file, or of a folder saved by ``datasets`` or with Parquet files.

    Raises:
        InputError: the format is unknown, the file is damaged or too large, or has no rows.
    """
    if path.is_dir():
        return _of_folder(path, split)
    if split:
        raise InputError(f"'split' applies to folders of datasets and to the hub, and {path} is a file: remove 'split'")
    suffix = "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffix).lower()
    if suffix not in _READERS:
        raise _unreadable(path)
    return _READERS[suffix](path)


def of_arrow(path: Path, tables: Iterable[pa.Table]) -> Table:
    """The rows of Arrow tables with the same columns."""
    rows: list[Mapping[str, Any]] = []
    columns: tuple[str, ...] = ()
    for table in tables:
        if columns and tuple(table.column_names) != columns:
            raise InputError(f"the files of {path} have different columns: use files with the same columns")
        columns = tuple(table.column_names)
        if len(rows) + table.num_rows > MOST_ITEMS:
            raise _too_many(path)
        rows += table.to_pylist()
    return _table(path, columns, ((f"row {i}", row) for i, row in enumerate(rows, start=1)))


def _of_folder(path: Path, split: str) -> Table:
    if arrow := saved_files(path, split):
        return of_arrow(path, map(open_arrow, arrow))
    names = [each.relative_to(path).as_posix() for each in path.rglob("*.parquet") if not each.name.startswith(".")]
    if not names:
        raise InputError(f"{path} contains neither .arrow nor .parquet files: name an item file")
    return of_arrow(path, (read_table(path / name) for name in files_of_split(names, split, str(path))))


def _lines(path: Path) -> Table:
    lines = _text(path).removesuffix("\n").split("\n")
    return _table(path, (PROMPT,), _numbered({PROMPT: line.removesuffix("\r")} for line in lines))


def _jsonl(path: Path) -> Table:
    columns: dict[str, None] = {}

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        # Not ``splitlines``: a text may contain Unicode line separators.
        for number, line in enumerate(_text(path).split("\n"), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, parse_constant=_refuse)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}, line {number} is not valid JSON ({first_line(error, 160)})") from None
            row = {PROMPT: row} if isinstance(row, str) else row
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number} is neither an object nor a string: write one object per line")
            columns.update(dict.fromkeys(row))
            yield f"line {number}", row

    read = list(rows())
    return _table(path, tuple(columns), read)


def _json(path: Path) -> Table:
    try:
        rows = json.loads(_text(path), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({first_line(error, 160)})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _unreadable(path)
    columns = dict.fromkeys(name for row in rows for name in row)
    return _table(path, tuple(columns), ((f"item {number}", row) for number, row in enumerate(rows, start=1)))


def _separated(path: Path, dialect: csv.Dialect) -> Table:
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(_text(path), newline=""), dialect, strict=True)

    def rows(header: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        while True:
            number = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            if not cells:
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path}, line {number} has {len(cells)} cells, but the header has {len(header)}: quote cells that "
                    "contain the separator"
                )
            yield f"line {number}", dict(zip(header, cells, strict=True))

    try:
        header = next(reader, [])
        if twice := next((name for name in header if name and header.count(name) > 1), None):
            raise InputError(f"{path} has two columns {twice!r}: rename one")
        return _table(path, tuple(header), rows(header))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}: double the quotes inside of quoted cells") from None


def _table(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Table:
    places: list[str] = []
    kept: list[Mapping[str, Any]] = []
    for place, row in rows:
        if len(kept) == MOST_ITEMS:
            raise _too_many(path)
        places.append(f"{path}, {place}")
        kept.append(row)
    if not kept:
        raise InputError(f"{path} contains no items")
    return Table(path, columns, tuple(kept), tuple(places))


def _numbered(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return zip((f"line {number}" for number in count(1)), rows, strict=False)


def _text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            unpacked: gzip.GzipFile | BinaryIO = gzip.GzipFile(fileobj=file) if path.suffix.lower() == ".gz" else file
            content = unpacked.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or first_line(error)
        raise InputError(f"cannot read items from {path} ({reason})") from None
    if len(content) > LARGEST:
        raise InputError(f"{path} has more than {LARGEST:,} bytes: split it, or use Parquet")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x}): convert it, for example "
            "with iconv -t utf-8"
        ) from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{one_line(constant)} is not JSON")


def _too_many(path: Path) -> InputError:
    return InputError(f"{path} has more than {MOST_ITEMS:,} rows: use a part of them")


def _unreadable(path: Path) -> InputError:
    return InputError(
        f"cannot read items from {path}: use one of {', '.join(_READERS)} (a list of objects), or a folder of datasets"
    )


_READERS: Mapping[str, Callable[[Path], Table]] = {
    ".txt": _lines,
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".csv": lambda path: _separated(path, csv.excel()),
    ".tsv": lambda path: _separated(path, csv.excel_tab()),
    ".parquet": lambda path: of_arrow(path, [read_table(path)]),
    ".arrow": lambda path: of_arrow(path, [open_arrow(path)]),
    ".json": _json,
}
