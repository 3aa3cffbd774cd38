"""Conditions on the rows of a table: ``label=3``, ``lang!=de``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from evalsvc.core.errors import InputError

_CONDITION = re.compile(r"(?P<column>[^=]*?)(?P<relation>!?=)(?P<value>.*)", re.DOTALL)

Values = Callable[[str], tuple[pa.ChunkedArray, Sequence[str]]]
"""The values of a column and the names of its classes; raises an :class:`InputError` if there is no such column."""


def rows_where(path: Path, rows: int, conditions: Sequence[str], values: Values) -> Int64[np.ndarray, " k"]:
    """The rows that meet all conditions, in order. An empty cell meets none; a class is met by its name or number.

    Raises:
        InputError: a condition is malformed, names an unknown column or a value of another type, or no row is left.
    """
    kept = np.ones(rows, bool)
    for condition in conditions:
        if not (match := _CONDITION.fullmatch(condition)):
            raise InputError(f"invalid condition {condition!r}: write COLUMN=VALUE or COLUMN!=VALUE")
        cells, classes = values(match["column"])
        value = _value(path, condition, match["value"], cells.type, classes)
        compare = pc.equal if match["relation"] == "=" else pc.not_equal
        kept &= compare(cells, value).fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
    if not kept.any():
        raise InputError(f"no row of {path} meets {' and '.join(conditions)}: change the option where")
    return np.flatnonzero(kept)


def _value(path: Path, condition: str, text: str, kind: pa.DataType, classes: Sequence[str]) -> pa.Scalar:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if text in classes:
        return pa.scalar(list(classes).index(text), kind)
    try:
        if pa.types.is_boolean(kind):
            return pa.scalar({"true": True, "false": False}[text.lower()])
        if pa.types.is_integer(kind):
            return pa.scalar(int(text), kind)
        if pa.types.is_floating(kind):
            return pa.scalar(float(text), kind)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return pa.scalar(text, kind)
    except (ValueError, KeyError, OverflowError, pa.ArrowException):
        raise InputError(f"condition {condition!r}: {text!r} is not a value of the {kind} column of {path}") from None
    raise InputError(f"condition {condition!r} is about a column of {kind}: use one of numbers or texts")
