"""Reading of an item set from the ``items:`` of a suite: rows of a file, mapped by the named columns."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from evalsvc.core.errors import InputError
from evalsvc.inputs.items import cells, templates
from evalsvc.inputs.items.examples import with_examples
from evalsvc.inputs.items.formats import as_published
from evalsvc.inputs.items.hub import download_split
from evalsvc.inputs.items.item_set import ItemSet, ids_of
from evalsvc.inputs.items.media import MediaFile, holds_media, media_file, modality_of
from evalsvc.inputs.items.schema import HUB, PROMPT, Items
from evalsvc.inputs.items.tables import Table, of_arrow, read_rows
from evalsvc.inputs.torch_loader import read_table
from evalsvc.plugins.interfaces import Modality

T = TypeVar("T")
LONGEST_ID = 200
"""Most characters of the id of an item."""


@dataclass(frozen=True)
class Loaded:
    """Items as they were read, and their media files by name."""

    items: ItemSet
    media: Mapping[str, MediaFile]


def read_items(items: Items) -> Loaded:
    """Read the items that a suite names; the file's path is absolute, or relative to the current folder.

    Raises:
        InputError: the file cannot be read, lacks a column, or a cell is malformed; the message names its row.
    """
    if items.labels:
        return Loaded(ItemSet.of_classes(items.labels.classes), {})
    columns = _Columns(_rows(items, items.file, items.split, items.revision), items)
    read = columns.read()
    if use := items.examples:
        pool = _Columns(_rows(items, use.file, use.split, ""), items).read() if use.file else read
        read = with_examples(read, pool, use, use.file or items.file)
    return Loaded(read, columns.media)


def complete(items: Items) -> Items:
    """The items of a suite with their number and digests, read from their file."""
    read = read_items(items).items
    found = {"count": len(read), "conditions": read.conditions, "sha256": read.sha256}
    return items.model_copy(update=found | ({"prompt": items.prompt or PROMPT} if read.prompts else {}))


def _rows(items: Items, file: str, split: str, revision: str) -> Table:
    if file.startswith(HUB):
        table = of_arrow(Path(file), map(read_table, download_split(file, split, revision)))
    else:
        table = read_rows(Path(file), split)
    return as_published(table, items.format) if items.format else table


class _Columns:
    """The columns of one table by the keys of one suite."""

    def __init__(self, table: Table, items: Items) -> None:
        self._table, self._items = table, items
        self.media: dict[str, MediaFile] = {}
        self._modalities: dict[str, Modality] = {}

    def read(self) -> ItemSet:
        items = self._items
        if not items.prompt and self._table.columns == (PROMPT,):
            items = items.model_copy(update={"prompt": PROMPT})
        if not (items.prompt or items.label or items.source or items.target or items.answer):
            there = ", ".join(map(repr, self._table.columns[:20]))
            raise InputError(
                f"no column of {self._table.path} is used (it has {there}): add 'prompt: COLUMN', 'label', 'source' or "
                "'target' to the items"
            )
        prompts = self._filled("prompt", items.prompt, cells.prompt)
        labels = self._cells("label", items.label, cells.label)
        sources = self._media("source", items.source) or self._cells("source", items.source, cells.text)
        shown = tuple((name,) for name in self._media("target", items.target))
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
            targets=shown or self._filled("target", items.target, cells.targets),
            choices=choices,
            answers=self._answers(choices),
            groups=self._cells("group", items.group, cells.text),
            tags={name: self._cells("tags", name, cells.text) for name in items.tags},
            media=self._modalities,
        )

    def _media(self, key: str, name: str) -> tuple[str, ...]:
        """Names of the media files of a column; empty for a column of texts."""
        table = self._table
        if name not in table.columns or not holds_media([row.get(name) for row in table.rows]):
            return ()
        folder = table.path if table.path.is_dir() else table.path.parent
        files = []
        for row, place in enumerate(table.places):
            read = functools.partial(media_file, folder=folder, place=f"{place}: {name!r}")
            files.append(self._checked(row, name, read))
        kinds = {kind for file in files if (kind := modality_of(file.name))}
        if len(kinds) > 1:
            raise InputError(f"{table.path}: column {name!r} mixes {' and '.join(sorted(kinds))}: use one modality")
        self._modalities[key] = kinds.pop()
        self.media.update((file.name, file) for file in files)
        return tuple(file.name for file in files)

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
