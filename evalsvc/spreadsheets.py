"""CSV for people's spreadsheets, which run a cell that begins like a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a formula begins with; some spreadsheets take the wide forms for the narrow ones."""


def as_csv(rows: Iterable[Mapping[str, object]], columns: Iterable[str] = ()) -> str:
    """Rows as CSV, with ``columns`` first and then those that occur; cells that would be run get a quote in front.

    Numbers stay numbers, negative ones and those that are written as text too.
    """
    rows = list(rows)
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerows([map(_inert, names), *([_inert(row.get(name)) for name in names] for row in rows)])
    return made.getvalue()


def _inert(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) and not _is_number(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()
