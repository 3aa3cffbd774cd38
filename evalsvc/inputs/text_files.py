"""Sets of documents: text files, JSONL, Parquet, or datasets saved to disk by ``datasets``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from evalsvc.core.digests import digest_files, digest_path, walk
from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import open_regular, require_regular
from evalsvc.core.files.system_files import is_system_file
from evalsvc.inputs.parquet_texts import COLUMN
from evalsvc.inputs.torch_loader import read_texts
from evalsvc.plugins.interfaces import Modality, SampleSet
from evalsvc.plugins.samples import Samples, Texts

FORM_FEED = "\f"
"""Separator of the documents in one text file."""
PLAIN = " (a .txt is one document, or several separated by form feeds; use a .jsonl for one text per line)"
"""Hint for errors about the number of documents in text files."""


def open_texts(path: Path, files: list[Path]) -> SampleSet | None:
    """Open the documents of a file or of the files of a folder; ``None`` for unknown formats.

    A ``.txt`` is one document, or several separated by form feeds. A line of a ``.jsonl`` is a string or an object with
    a string ``text``. A ``.parquet``, or the Arrow files of a saved dataset, has a column ``text``.
    """
    if (path / "dataset_dict.json").is_file():
        splits = ", ".join(sorted(state.parent.name for state in path.glob("*/state.json")))
        raise InputError(f"{path} contains several splits ({splits}): pass the folder of one split")
    readers: dict[str, Callable[[Path, list[Path]], SampleSet]] = {
        ".arrow": lambda path, files: TextTable(path, [open_arrow(file) for file in files]),
        ".parquet": lambda path, files: TextTable(path, [read_texts(file) for file in files]),
        ".jsonl": lambda path, files: _of_lines(path, [line for file in files for line in _lines(file)]),
        ".txt": lambda path, files: TextList(path, [text for file in files for text in _documents(file)], note=PLAIN),
    }
    for suffix, reader in readers.items():
        # ``datasets`` stores the results of ``map`` beside the data, as cache-*.arrow.
        if matching := [f for f in files if f.suffix.lower() == suffix and not f.name.startswith("cache-")]:
            return reader(path, matching)
    return None


def digest_set(path: Path) -> str:
    """sha256 of a file, or of all files of a folder except system files."""
    return digest_files(path, walk(path, exclude_files=is_system_file)) if path.is_dir() else digest_path(path)


class TextList:
    """Documents in memory. ``note`` explains how their file was read, where that may be surprising.

    ``names`` are those of the items that they belong to, ``id`` or ``id-draw``; "" where a line has none.
    """

    modality: Modality = "text"

    def __init__(self, path: Path, items: Sequence[str], names: Sequence[str] = (), note: str = "") -> None:
        if not items:
            raise InputError(f"{path} contains no documents")
        self._path, self._items, self.names, self.note = path, tuple(items), tuple(names), note

    def __len__(self) -> int:
        return len(self._items)

    def digest(self) -> str:
        """sha256 of the current content of the file or folder."""
        return digest_set(self._path)

    def read(self, start: int, stop: int) -> Samples:
        """Documents ``start`` to ``stop``."""
        return Texts(self._items[start:stop])

    def read_at(self, indices: Sequence[int]) -> Samples:
        """The documents at these indices, in this order."""
        return Texts(tuple(self._items[i] for i in indices))


class TextTable:
    """Documents in a column of Arrow tables; Arrow files are memory-mapped."""

    modality: Modality = "text"

    def __init__(self, path: Path, tables: list[pa.Table]) -> None:
        columns = []
        for table in tables:
            if COLUMN not in table.column_names:
                names = ", ".join(table.column_names) or "none"
                raise InputError(f"{path} has no column {COLUMN!r} (it has {names}): rename the column with the text")
            column = table.column(COLUMN)
            if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
                raise InputError(f"{path} has a column {COLUMN!r} of {column.type}: convert it to strings")
            if column.null_count:
                raise InputError(
                    f"{path}: column {COLUMN!r} has {column.null_count} empty cells (null): drop those rows"
                )
            columns.append(column.cast(pa.large_string()))
        self._column = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.large_string())
        if not len(self._column):
            raise InputError(f"{path} contains no documents")
        self._path = path

    def __len__(self) -> int:
        return len(self._column)

    def digest(self) -> str:
        """sha256 of the current content of the file or folder."""
        return digest_set(self._path)

    def read(self, start: int, stop: int) -> Samples:
        """Documents ``start`` to ``stop``."""
        return Texts(tuple(self._column[start:stop].to_pylist()))

    def read_at(self, indices: Sequence[int]) -> Samples:
        """The documents at these indices, in this order."""
        return Texts(tuple(self._column.take(pa.array(indices, pa.int64())).to_pylist()))


def _documents(file: Path) -> list[str]:
    parts = _decode(file).split(FORM_FEED)
    return [part.strip("\r\n") for part in parts] if len(parts) > 1 else parts


def _of_lines(path: Path, lines: list[tuple[str, str]]) -> TextList:
    return TextList(path, [text for text, _ in lines], [name for _, name in lines])


def _lines(file: Path) -> list[tuple[str, str]]:
    """The text of each line, and the name of the item that it belongs to."""
    items = []
    for number, line in enumerate(_decode(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}, line {number} is not valid JSON ({error})") from None
        text = record.get(COLUMN) if isinstance(record, dict) else record
        if not isinstance(text, str):
            keys = f" (it has {', '.join(map(repr, record))})" if isinstance(record, dict) and record else ""
            raise InputError(f"{file}, line {number} is neither a string nor an object with a string {COLUMN!r}{keys}")
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(f"{file}, line {number} contains a lone surrogate: repair or remove it")
        items.append((text, _name(record) if isinstance(record, dict) else ""))
    return items


def _name(record: dict[str, Any]) -> str:
    given = [str(record[key]) for key in ("id", "draw") if isinstance(record.get(key), str | int)]
    return "-".join(given) if "id" in record else ""


def _decode(file: Path) -> str:
    try:
        with open_regular(file) as opened:
            return opened.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file} is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x}): convert it, for "
            "example with iconv -t utf-8"
        ) from None


def open_arrow(file: Path) -> pa.Table:
    """The table of an Arrow file, memory-mapped; ``datasets`` writes streams, and other tools write files."""
    try:
        require_regular(file)
        source = pa.memory_map(str(file))
        try:
            table = pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)  # offsets of a damaged file point outside of it
        return table
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} is not a readable Arrow file ({error})") from None
