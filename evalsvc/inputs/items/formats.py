"""Item files of known benchmarks, as they are published: their columns become prompts and tests of ``code-tests``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from evalsvc.core.errors import InputError
from evalsvc.inputs.items.tables import Table

Row = Mapping[str, Any]


def _humaneval(row: Row) -> Row:
    """HumanEval (Chen et al. 2021): the beginning of a function, and a function that checks it."""
    return {"target": f"{row['test']}\n\ncheck({row['entry_point']})"}


def _mbpp(row: Row) -> Row:
    """MBPP (Austin et al. 2021), whole or sanitized: a task in words, and assertions that the prompt shows."""
    words, tests = row["text"] if "text" in row else row["prompt"], row["test_list"]
    if not (isinstance(words, str) and isinstance(tests, list) and all(isinstance(test, str) for test in tests)):
        raise TypeError
    before = [*(row.get("test_imports") or ()), row.get("test_setup_code") or ""]
    return {
        "prompt": f"{words}\n\nThe code must pass these tests:\n\n" + "\n".join(tests) + "\n",
        "target": ["\n".join(filter(None, [*before, test])) for test in tests],
    }


_READERS: Mapping[str, Callable[[Row], Row]] = {"humaneval": _humaneval, "mbpp": _mbpp}


def as_published(table: Table, name: str) -> Table:
    """The table with the columns ``prompt`` and ``target``, of a file in the format with this name.

    Raises:
        InputError: a row is not of this format.
    """
    rows = []
    for row, place in zip(table.rows, table.places, strict=True):
        try:
            rows.append({**row, **_READERS[name](row)})
        except (KeyError, TypeError) as error:
            lacks = f"it has no {error}" if isinstance(error, KeyError) else "a column has another type"
            raise InputError(f"{place} is not an item of {name} ({lacks}): remove 'format', or name its file") from None
    return replace(table, columns=tuple(dict.fromkeys((*table.columns, *rows[0]))), rows=tuple(rows))
