"""Columns of tables: the one that has the samples, its modality, and what ``datasets`` says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import pyarrow as pa

from evalsvc.core.errors import InputError, one_line
from evalsvc.inputs.images.decoding import IMAGE_SUFFIXES
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.sounds.decoding import SOUND_SUFFIXES
from evalsvc.inputs.tables.cells import Cells
from evalsvc.plugins.interfaces import Modality

TEXT = "text"
"""Name of the column of texts, where no other is named."""
MOST_LISTED = 20
ID = "id"
"""Name of the column of the ids of rows."""
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"GIF8")
_SOUNDS = (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"FORM")
_AVIF = (b"ftypavif", b"ftypavis", b"ftypmif1")


class Table(Protocol):
    """Rows with columns, of which only those that are used are read."""

    schema: pa.Schema

    def __len__(self) -> int: ...

    def values(self, column: str) -> pa.ChunkedArray:
        """The values of a column of numbers or short texts."""
        ...

    def nulls(self, column: str) -> int:
        """Number of empty cells; -1 if it is not known without reading the column."""
        ...

    def cells(self, column: str) -> Cells:
        """The contents of a column of texts, bytes or ``{bytes, path}``."""
        ...

    def few(self, column: str) -> list[bytes]:
        """The contents of the first rows that are not empty, or the names of their files."""
        ...

    def name(self, row: int) -> str:
        """The name of a row in errors and in lists of skipped rows."""
        ...

    def row(self, name: str) -> int | None:
        """The row of this name; ``None`` if there is none."""
        ...

    def ids(self) -> Sequence[str]:
        """The ids of the rows; empty if they have none."""
        ...


class NumberedRows:
    """Rows that are named by their number, counted from 0, and have ids if there is a column ``id``."""

    schema: pa.Schema

    def __len__(self) -> int:
        raise NotImplementedError

    def values(self, column: str) -> pa.ChunkedArray:
        """The values of a column."""
        raise NotImplementedError

    def name(self, row: int) -> str:
        """The name of a row."""
        return f"row {row}"

    def row(self, name: str) -> int | None:
        """The row of this name; ``None`` if there is none."""
        number = name.removeprefix("row ")
        return int(number) if number.isdecimal() and int(number) < len(self) else None

    def ids(self) -> Sequence[str]:
        """The values of the column ``id``; empty if there is none of numbers or texts."""
        if self.schema.names.count(ID) != 1:
            return ()
        kind = self.schema.field(ID).type
        usable = pa.types.is_integer(kind) or is_text(kind)
        return ["" if value is None else str(value) for value in self.values(ID).to_pylist()] if usable else ()


def require_column(path: Path, schema: pa.Schema, name: str) -> None:
    """Raise unless there is exactly one such column."""
    if (there := schema.names.count(name)) == 1:
        return
    if there:
        raise InputError(f"{path} has {there} columns {name!r}: rename one")
    raise InputError(f"{path} has no column {name!r} (it has {_listed(schema)})")


def _listed(schema: pa.Schema) -> str:
    more = f" and {len(schema.names) - MOST_LISTED} more" if len(schema.names) > MOST_LISTED else ""
    return (", ".join(map(one_line, schema.names[:MOST_LISTED])) or "none") + more


def column_of_samples(path: Path, schema: pa.Schema, reading: ReadingOptions) -> str:
    """The column that the options name, else ``text``, else the only one of images or sounds."""
    if reading.column:
        require_column(path, schema, reading.column)
        return reading.column
    if TEXT in schema.names:
        require_column(path, schema, TEXT)
        return TEXT
    media = [field.name for field in schema if _is_media(field.type)]
    media = [name for name in media if features(schema).get(name, {}).get("_type") in ("Image", "Audio")] or media
    if len(media) == 1:
        return str(media[0])
    if media:
        listed = ", ".join(map(one_line, media))
        raise InputError(f"{path} has several columns of samples ({listed}): name one with the option column")
    raise InputError(
        f"{path} has no column {TEXT!r} (it has {_listed(schema)}), and none of images or sounds: name one with the "
        "option column"
    )


def features(schema: pa.Schema) -> Mapping[str, Mapping[str, Any]]:
    """Types of columns that ``datasets`` stores beside them; empty if there are none."""
    try:
        told = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): each for name, each in told.items() if isinstance(each, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def modality_of_column(path: Path, table: Table, column: str) -> Modality:
    """The modality of the samples of a column, by its type and its first contents.

    Raises:
        InputError: it has neither texts nor bytes, or bytes of an unknown format.
    """
    kind = table.schema.field(column).type
    if is_text(kind):
        few = [] if column == TEXT else table.few(column)
        return (_of_name(few[0]) if few else None) or "text"
    if not _is_media(kind):
        way_out = "convert it to strings" if column == TEXT else "name another with the option column"
        raise InputError(f"{path} has a column {column!r} of {kind}: {way_out}")
    for each in table.few(column):
        if modality := _of_content(each) or _of_name(each):
            return modality
    told = features(table.schema).get(column, {}).get("_type")
    if told in ("Image", "Audio"):
        return "image" if told == "Image" else "audio"
    raise InputError(f"{path}: column {column!r} has neither images nor sounds of a known format")


def _of_content(content: bytes) -> Modality | None:
    """The modality of encoded bytes by their first few; ``None`` if it is unknown."""
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image"
    if content.startswith(_IMAGES) or content[4:12] in _AVIF:
        return "image"
    return "audio" if content.startswith((*_SOUNDS, b"RIFF")) else None


def may_name(table: Table, column: str) -> bool:
    """Whether some cells of ``{bytes, path}`` may have no bytes."""
    kind = table.schema.field(column).type
    return bool(pa.types.is_struct(kind)) and "path" in kind.names and table.nulls(f"{column}.bytes") != 0


def _of_name(name: bytes) -> Modality | None:
    suffix = PurePosixPath(name.decode(errors="replace")).suffix.lower()
    return "image" if suffix in IMAGE_SUFFIXES else "audio" if suffix in SOUND_SUFFIXES else None


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is that of texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_media(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        fields = {field.name: field.type for field in kind}
        return (
            "bytes" in fields
            and set(fields) <= {"bytes", "path"}
            and (_is_media(fields["bytes"]) or pa.types.is_null(fields["bytes"]))
        )
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
