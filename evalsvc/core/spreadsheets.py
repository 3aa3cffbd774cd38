"""CSV for spreadsheets, which run a cell that begins like a formula. Every CSV of evalsvc is written here."""

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
    """Rows as CSV, headings first: ``columns``, then all others in the order in which they occur.

    Text that a spreadsheet would run, in a heading or in a cell, gets an apostrophe in front. Numbers stay numbers,
    negative ones and those that are written as text too.
    """
    rows = list(rows)
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerows([map(guarded, names), *([guarded(row.get(name)) for name in names] for row in rows)])
    return made.getvalue()


def guarded(cell: object) -> object:
    """A cell that no spreadsheet runs: a number, nothing, or text with an apostrophe before what begins like a formula.

    Where semicolons or tabs separate cells by custom, a spreadsheet cuts the text at these too, and at line ends.
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
    """Whether the first character that shows is an operator, in any width; spaces and invisible ones are skipped."""
    for character in text:
        if not (character.isspace() or unicodedata.category(character) in ("Cc", "Cf", "Zs")):
            return unicodedata.normalize("NFKC", character)[:1] in _FORMULA
    return False
