"""Grades of samples by people: a file with the columns ``item`` and ``grade``, and maybe ``draw`` and ``rater``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsvc.core.errors import InputError
from evalsvc.inputs.items import cells
from evalsvc.inputs.items.tables import read_rows


@dataclass(frozen=True)
class HumanGrade:
    """A grade of the draw of an item by a rater; ``place`` names its row in errors."""

    item: str
    draw: int
    rater: str
    grade: float
    place: str


def read_grades(path: Path) -> list[HumanGrade]:
    """The grades in a file (.csv, .tsv, .jsonl, .parquet), without rows whose ``grade`` is empty.

    The draw is 0 and the rater "" where the file does not have the column.

    Raises:
        InputError: the file cannot be read, lacks a column, has no grade, or a cell is malformed.
    """
    table = read_rows(path)
    if lacking := [name for name in ("item", "grade") if name not in table.columns]:
        raise InputError(f"{path} has no column {lacking[0]!r}: use the columns item, grade, and maybe draw and rater")
    grades = [
        _grade(row, place)
        for row, place in zip(table.rows, table.places, strict=True)
        if not cells.is_empty(row.get("grade"))
    ]
    if not grades:
        raise InputError(f"{path} has no grades: fill the column 'grade'")
    return grades


def _grade(row: Mapping[str, Any], place: str) -> HumanGrade:
    try:
        item, rater = cells.text(row.get("item")), cells.text(row.get("rater"))
    except cells.CellError as error:
        raise InputError(f"{place}: a cell {error}") from None
    grade, draw = _number(row["grade"]), _number(row.get("draw") or 0)
    if not math.isfinite(grade):
        raise InputError(f"{place}: 'grade' is {str(row['grade'])!r:.60}: use a number")
    if not draw.is_integer():
        raise InputError(f"{place}: 'draw' is {str(row['draw'])!r:.60}: use whole numbers from 0")
    return HumanGrade(item, int(draw), rater, grade, place)


def _number(value: Any) -> float:
    """The number in a cell; NaN if it has none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
