"""Encode untrusted names for chart data by a prefix.

Vega stores values as keys of plain JavaScript objects, which already have entries for names such as ``constructor`` or
``__proto__``; a chart with such a name stays empty. A prefixed name cannot collide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from evalsvc.dashboards.formatting import cut, unique_labels

Rows = Sequence[Mapping[str, Any]]
MARK = "·"
DECODE_NAME = "slice(datum.label, 1)"
"""Vega expression that removes the prefix in axes and legends."""


def encode_names(names: Iterable[str]) -> dict[str, str]:
    """The encoded forms of these names."""
    labels = unique_labels({name: cut(name) for name in names})
    return {name: MARK + label for name, label in labels.items()}


def table(rows: Rows, codes: Mapping[str, str] | None = None, *columns: str) -> pd.DataFrame:
    """Rows as chart data with the names in ``columns`` encoded; ``label`` is the first of them, for tooltips."""
    made = [{key: cut(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows]
    if codes and columns:
        for row, shown in zip(rows, made, strict=True):
            shown |= {column: codes[row[column]] for column in columns}
            shown["label"] = shown[columns[0]][len(MARK) :]
    return pd.DataFrame(made)
