"""Sets of documents: text files and JSONL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalsvc.core.digests import digest_files, digest_path, walk
from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import open_regular
from evalsvc.core.files.system_files import is_system_file
from evalsvc.plugins.interfaces import Modality, SampleSet
from evalsvc.plugins.samples import Samples, Texts

COLUMN = "text"
"""Field of a line of JSON."""
FORM_FEED = "\f"
"""Separator of the documents in one text file."""
PLAIN = " (a .txt is one document, or several separated by form feeds; use a .jsonl for one text per line)"
"""Hint for errors about the number of documents in text files."""


def open_texts(path: Path, files: list[Path]) -> SampleSet | None:
    """Open the documents of a file or of the files of a folder; ``None`` for unknown formats.

    A ``.txt`` is one document, or several separated by form feeds. A line of a ``.jsonl`` is a string or an object with
    a string ``text``.
    """
    if lines := [file for file in files if file.suffix.lower() == ".jsonl"]:
        return _of_lines(path, [line for file in lines for line in _lines(file)])
    if plain := [file for file in files if file.suffix.lower() == ".txt"]:
        return TextList(path, [text for file in plain for text in _documents(file)], note=PLAIN)
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
