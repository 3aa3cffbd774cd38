"""Class labels of the rows of a table, and the names of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from evalsvc.core.errors import InputError
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.tables.columns import Table, features, require_column

NAMES = ("label", "labels", "cls", "y")
"""Names of columns of labels, by priority, where no other is named."""
LARGEST = 2**31 - 1
"""Largest label."""


@dataclass(frozen=True)
class Labels:
    """The label of each row, -1 if it has none, and the names of the classes, if they have any."""

    values: Int64[np.ndarray, " n"]
    classes: tuple[str, ...] = ()


def labels_of(path: Path, table: Table, reading: ReadingOptions) -> Labels:
    """The labels in the column that the options name, else in one that is called so, else in the only one of classes.

    Texts are numbered in their order; integers and the classes of ``datasets`` stay as they are.

    Raises:
        InputError: there is no such column, or it has other values.
    """
    if (column := column_of_labels(path, table, reading)) is None:
        return Labels(np.full(len(table), -1))
    return numbered(path, column, table.values(column), class_names(table.schema, column))


def column_of_labels(path: Path, table: Table, reading: ReadingOptions) -> str | None:
    """The column of labels; ``None`` if there is none."""
    if reading.labels:
        require_column(path, table.schema, reading.labels)
        return reading.labels
    usable = [field.name for field in table.schema if _is_label(field.type)]
    if named := next((name for name in NAMES if name in usable), None):
        return named
    classes = [name for name in usable if class_names(table.schema, name)]
    return classes[0] if len(classes) == 1 else None


def class_names(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """The names of the classes of a column, as ``datasets`` stores them."""
    told = features(schema).get(column, {})
    names = told.get("names") if told.get("_type") == "ClassLabel" else None
    return tuple(map(str, names)) if isinstance(names, list) else ()


def numbered(path: Path, column: str, values: pa.ChunkedArray, classes: Sequence[str] = ()) -> Labels:
    """Labels from the values of a column: integers from 0, or texts, which are numbered in their order."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
    if _is_text(values.type):
        names = sorted(name for name in pc.unique(values).to_pylist() if name is not None)
        places = pc.index_in(values, value_set=pa.array(names, values.type)).fill_null(-1)
        return Labels(places.to_numpy().astype(np.int64), tuple(names))
    if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"{path} has a column {column!r} of {kind}: use integers or texts as labels")
    # Arrow compares signed with unsigned integers, and finds the first row that does not fit.
    least, most = pc.min_max(values).as_py().values()
    if least is not None and not (least >= -1 and most <= LARGEST):
        bad = most if most > LARGEST else least
        raise InputError(
            f"{path} has the label {bad} in column {column!r}: use integers from 0 to {LARGEST}, or -1 for none"
        )
    return Labels(values.cast(pa.int64()).fill_null(-1).to_numpy(), tuple(classes))


def _is_label(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind) or _is_text(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))
