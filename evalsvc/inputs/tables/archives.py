"""Tables of tar archives, as WebDataset writes them: members with a common name are the cells of a row."""

from __future__ import annotations

import json
import tarfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from evalsvc.core.errors import InputError, first_line
from evalsvc.core.files.regular_files import open_regular
from evalsvc.core.files.system_files import is_system_file
from evalsvc.inputs.items.cells import CellError
from evalsvc.inputs.tables.cells import Cells

TEXTS = frozenset({"cls", "cls2", "id", "json", "text", "txt"})
"""Ends of names of members with texts."""
MOST_COLUMNS = 64
TOGETHER = ";"
"""Parts several ends of names that are one column: ``jpg;png``."""


class TarTable:
    """The rows of tar archives, one after the other; nothing is unpacked.

    The column of ``cat/0001.seg.png`` is ``seg.png``, and its row is ``cat/0001``. Fields of the objects in members
    ``json`` are columns too. ``together`` names columns that are read as one.
    """

    def __init__(self, files: Sequence[Path], together: str = "") -> None:
        self._files: list[Callable[[], BinaryIO]] = [partial(open_regular, file) for file in files]
        self._index = _Index()
        ends = [self._index.add(file) for file in files]
        self._ends = ends
        fields = [pa.field(name, pa.string() if name in TEXTS else pa.binary()) for name in self._index.columns]
        if TOGETHER in together and set(together.split(TOGETHER)) <= set(self._index.columns):
            fields.append(pa.field(together, pa.binary()))
        self.schema: pa.Schema = pa.schema([*fields, *self._json_fields()])

    def __len__(self) -> int:
        return len(self._index.keys)

    def values(self, column: str) -> pa.ChunkedArray:
        """The texts of a column, as integers if all are, or a field of the members ``json``."""
        if column in self._index.columns:
            texts = [text.strip() if text is not None else None for text in self._texts(column)]
            whole = all(text is None or text.removeprefix("-").isdecimal() for text in texts)
            return _chunked(column, [text if text is None else int(text) for text in texts] if whole else texts)
        return _chunked(column, [each.get(column) for each in self._objects()])

    def nulls(self, column: str) -> int:
        """Number of rows without this member."""
        lengths = self._index.places(column)[1]
        return int((lengths < 0).sum())

    def cells(self, column: str) -> Cells:
        """The contents of the members of a column."""
        starts, lengths = self._index.places(column)
        return Cells(self._files, self._ends, starts, lengths, np.zeros(len(self), bool), None)

    def few(self, column: str) -> list[bytes]:
        """The contents of the first rows that are not empty."""
        return self.cells(column).few()

    def name(self, row: int) -> str:
        """The name that the members of a row have in common."""
        return str(self._index.keys[row])

    def row(self, name: str) -> int | None:
        """The row of this name; ``None`` if there is none."""
        return next((row for row in range(len(self)) if self.name(row) == name), None)

    def ids(self) -> Sequence[str]:
        """The names of the rows."""
        return self._index.keys

    def _texts(self, column: str) -> Iterator[str | None]:
        cells = self.cells(column)
        for row in range(len(self)):
            try:
                yield cells.read(row).decode(errors="replace")
            except CellError:
                yield None

    def _objects(self) -> Iterator[dict[str, Any]]:
        for row, text in enumerate(self._texts("json")):
            try:
                value = json.loads(text or "{}")
            except (ValueError, RecursionError) as error:
                raise InputError(f"{self.name(row)}.json is not valid JSON ({first_line(error, 160)})") from None
            yield value if isinstance(value, dict) else {}

    def _json_fields(self) -> list[pa.Field]:
        """Fields of the first object that are numbers or texts, unless members are called so."""
        first = next(self._objects(), {}) if "json" in self._index.columns and len(self) else {}
        kinds = {name: pa.infer_type([value]) for name, value in first.items() if isinstance(value, str | int | float)}
        return [pa.field(name, kind) for name, kind in kinds.items() if name not in self._index.columns]


class _Keys(Sequence[str]):
    """Names of rows in one buffer, without an object for each."""

    def __init__(self) -> None:
        self._text, self._ends = bytearray(), array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: Any) -> Any:
        return self._text[self._ends[row] : self._ends[row + 1]].decode(errors="surrogateescape")

    def append(self, key: str) -> None:
        self._text += key.encode(errors="surrogateescape")
        self._ends.append(len(self._text))


class _Index:
    """Rows, starts and sizes of the members of each column."""

    def __init__(self) -> None:
        self.keys = _Keys()
        self.columns: dict[str, array[int]] = {}

    def add(self, file: Path) -> int:
        """Add the members of an archive, and return the number of rows up to its end."""
        before = ""
        try:
            with open_regular(file) as opened:
                size = opened.seek(0, 2)
                opened.seek(0)
                for member in _members(opened):
                    _check(file, member, size)
                    if member.isdir() or is_system_file(member.name.removeprefix("./")):
                        continue
                    key, column = _split(member.name)
                    if not column:
                        continue
                    if key != before or not len(self.keys):
                        self.keys.append(before := key)
                    self._add(file, member, column)
        except (tarfile.TarError, OSError, ValueError, EOFError, OverflowError) as error:
            raise InputError(f"{file} is not a readable tar archive ({first_line(error, 160)})") from None
        return len(self.keys)

    def _add(self, file: Path, member: tarfile.TarInfo, column: str) -> None:
        if column not in self.columns and len(self.columns) == MOST_COLUMNS:
            raise InputError(
                f"{file} has members with more than {MOST_COLUMNS} ends of names, such as .{column}: "
                "name the members of a sample alike up to their first dot"
            )
        places = self.columns.setdefault(column, array("q"))
        row = len(self.keys) - 1
        if places and places[-3] == row:
            raise InputError(f"{file} contains {member.name} twice: rename one")
        places.extend((row, member.offset_data, member.size))

    def places(self, column: str) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Start and length of the cell of each row; the length is -1 if there is none."""
        starts, lengths = np.zeros(len(self.keys), np.int64), np.full(len(self.keys), -1)
        for name in [column] if column in self.columns else column.split(TOGETHER):
            rows, from_, sizes = np.frombuffer(self.columns[name], np.int64).reshape(-1, 3).T
            starts[rows], lengths[rows] = from_, sizes
        return starts, lengths


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            yield member
            archive.members.clear()  # type: ignore[attr-defined]  # it keeps each for access by name


def _check(file: Path, member: tarfile.TarInfo, size: int) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise InputError(f"{file} contains {member.name!r}, a name that leads out of the archive: rename it")
    if not (member.isdir() or (member.isreg() and not member.issparse())):
        raise InputError(f"{file} contains {member.name!r}, which is not a plain file: pack the files themselves")
    if member.size < 0 or member.offset_data + member.size > size:
        raise InputError(f"{file} is truncated: the end of {member.name!r} is missing")


def _split(name: str) -> tuple[str, str]:
    """Name of the row and of the column of a member: up to and from the first dot of its last part."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, _, column = last.partition(".")
    return f"{folder}{slash}{stem}", column.lower()


def _chunked(column: str, values: list[Any]) -> pa.ChunkedArray:
    try:
        return pa.chunked_array([pa.array(values)])
    except (pa.ArrowException, OverflowError) as error:
        raise InputError(f"column {column!r} has values of several types ({first_line(error, 160)})") from None
