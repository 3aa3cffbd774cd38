"""Names from outside as the data of charts: values behind a mark.

Vega keeps values as keys of plain JavaScript objects, in which a name such as ``constructor`` or ``__proto__`` is there
already, and a chart that has one among its names is empty. Behind a mark no name is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from evalsvc.dashboards.formatting import cut, distinct

Rows = Sequence[Mapping[str, Any]]
MARK = "·"
UNMARKED = "slice(datum.label, 1)"
"""How axes and legends show a name that is coded."""


def coded(names: Iterable[str]) -> dict[str, str]:
    """What stands in a chart's data for each of these names."""
    labels = distinct({name: cut(name) for name in names})
    return {name: MARK + label for name, label in labels.items()}


def table(rows: Rows, codes: Mapping[str, str] | None = None, *columns: str) -> pd.DataFrame:
    """Rows as the chart's data, the names in ``columns`` coded; ``label`` is the first of them for tooltips."""
    made = [{key: cut(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows]
    if codes and columns:
        for row, shown in zip(rows, made, strict=True):
            shown |= {column: codes[row[column]] for column in columns}
            shown["label"] = shown[columns[0]][len(MARK) :]
    return pd.DataFrame(made)
