"""CSV that is safe to open in spreadsheets, which execute cells that begin like a formula. The only CSV writer here."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping
from numbers import Number

_FORMULA = frozenset("=+-@")
_CONTROL = frozenset("\t\r\n")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_CELL = re.compile(r"(?<=[;\t\r\n])")


def as_csv(rows: Iterable[Mapping[str, object]], columns: Iterable[str] = ()) -> str:
    """Rows as CSV with a header: ``columns``, then all other keys in order of appearance.

    Text that a spreadsheet would execute, in the header or in a cell, is prefixed with an apostrophe. Numbers are not
    changed, even if negative or stored as text.
    """
    rows = list(rows)
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerows([map(guarded, names), *([guarded(row.get(name)) for name in names] for row in rows)])
    return made.getvalue()


def guarded(cell: object) -> object:
    """A cell that no spreadsheet executes: text gets an apostrophe before each part that begins like a formula.

    If semicolons or tabs are the local separators, a spreadsheet splits text at these too, and at line ends.
    """
    if cell is None or isinstance(cell, Number):
        return cell
    text = str(cell)
    if _NUMBER.fullmatch(text):
        return text
    parts = _CELL.split(text)
    guard = ["'" if _begins_a_formula(part) else "" for part in parts]
    if text[:1] in _CONTROL:
        guard[0] = "'"
    return "".join(mark + part for mark, part in zip(guard, parts, strict=True))


def _begins_a_formula(text: str) -> bool:
    """Whether the first visible character is an operator of any width; spaces and invisible characters are skipped."""
    for character in text:
        if not (character.isspace() or unicodedata.category(character) in ("Cc", "Cf", "Zs")):
            return unicodedata.normalize("NFKC", character)[:1] in _FORMULA
    return False
