"""Reading of an item set from the ``items:`` of a suite: rows of a file, mapped by the named columns."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from evalsvc.core.errors import InputError
from evalsvc.inputs.items import cells, templates
from evalsvc.inputs.items.item_set import ItemSet, ids_of
from evalsvc.inputs.items.schema import Items
from evalsvc.inputs.items.tables import TEXT, Table, read_rows

T = TypeVar("T")
LONGEST_ID = 200
"""Most characters of the id of an item."""


def read_items(items: Items) -> ItemSet:
    """Read the items that a suite names; the file's path is absolute, or relative to the current folder.

    Raises:
        InputError: the file cannot be read, lacks a column, or a cell is malformed; the message names its row.
    """
    if items.labels:
        return ItemSet.of_classes(items.labels.classes)
    return _Columns(read_rows(Path(items.file), items.split), items).read()


class _Columns:
    """The columns of one table by the keys of one suite."""

    def __init__(self, table: Table, items: Items) -> None:
        self._table, self._items = table, items

    def read(self) -> ItemSet:
        items = self._items
        if not items.prompt and self._table.columns == (TEXT,):
            items = items.model_copy(update={"prompt": TEXT})
        prompts = self._filled("prompt", items.prompt, cells.prompt)
        labels = self._cells("label", items.label, cells.label)
        sources = self._cells("source", items.source, cells.text)
        choices = self._cells("choices", items.choices, cells.choices)
        conditions = {"prompt": prompts, "label": labels, "source": sources}
        given = [name for name, column in conditions.items() if column]
        plain = [{name: conditions[name][i] for name in given} for i in range(len(self._table.rows))]
        return ItemSet(
            ids=self._ids() or ids_of(plain),
            positions=np.arange(len(self._table.rows)),
            prompts=prompts,
            labels=np.array(labels, np.int64) if items.label else None,
            sources=sources,
            targets=self._filled("target", items.target, cells.targets),
            choices=choices,
            answers=self._answers(choices),
            groups=self._cells("group", items.group, cells.text),
            tags={name: self._cells("tags", name, cells.text) for name in items.tags},
        )

    def _ids(self) -> tuple[str, ...]:
        name = self._items.id or ("id" if "id" in self._table.columns else "")
        ids = self._cells("id", name, cells.text)
        rows: dict[str, int] = {}
        for row, each in enumerate(ids):
            if not 0 < len(each) <= LONGEST_ID:
                raise self._fault(row, name, f"is not an id: use 1 to {LONGEST_ID} characters")
            if (first := rows.setdefault(each, row)) != row:
                raise self._fault(row, name, f"has the id of {self._table.places[first]}: ids must be unique")
        return ids

    def _answers(self, choices: Sequence[tuple[str, ...]]) -> tuple[str | int, ...]:
        name = self._items.answer
        if not name:
            return ()
        self._require("answer", name)
        raw = [row.get(self._items.choices) for row in self._table.rows]
        names = [each.get("label") if isinstance(each, dict) else None for each in raw]
        given = choices or [()] * len(raw)
        return tuple(
            self._checked(row, name, functools.partial(cells.answer, given=given[row], names=names[row]))
            for row in range(len(raw))
        )

    def _filled(self, key: str, said: str, read: Callable[[Any], T]) -> tuple[T, ...]:
        """The cells of a column, or of a template over columns."""
        fields = templates.fields_of(said)
        if said in self._table.columns or not fields:
            return self._cells(key, said, read)
        for field in fields:
            self._require(key, field)
        values = []
        for row, cell in enumerate(self._table.rows):
            try:
                values.append(read(templates.fill(said, cell)))
            except cells.CellError as error:
                raise self._fault(row, said, str(error)) from None
        return tuple(values)

    def _cells(self, key: str, name: str, read: Callable[[Any], T]) -> tuple[T, ...]:
        if not name:
            return ()
        self._require(key, name)
        return tuple(self._checked(row, name, read) for row in range(len(self._table.rows)))

    def _checked(self, row: int, name: str, read: Callable[[Any], T]) -> T:
        try:
            return read(self._table.rows[row].get(name))
        except cells.CellError as error:
            raise self._fault(row, name, str(error)) from None

    def _require(self, key: str, name: str) -> None:
        columns = self._table.columns
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=3, cutoff=0.5) or columns[:20]
            raise InputError(
                f"{self._table.path} has no column {name!r} for '{key}'; the nearest are {', '.join(map(repr, near))}"
            )

    def _fault(self, row: int, name: str, fault: str) -> InputError:
        return InputError(f"{self._table.places[row]}: {name!r} {fault}")
