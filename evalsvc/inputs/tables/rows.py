"""The rows of a table that are samples, by the options of reading."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import open_regular
from evalsvc.inputs.items.media import beside
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.tables.columns import Table, require_column
from evalsvc.inputs.tables.conditions import rows_where
from evalsvc.inputs.tables.labels import Labels, class_names, labels_of


class TableRows:
    """The rows of a table that meet all conditions and are not skipped.

    With ``named_in``, the cells are names of files below this folder in place of contents.
    """

    def __init__(
        self,
        path: Path,
        table: Table,
        column: str,
        reading: ReadingOptions,
        skip: Collection[str],
        digest: Callable[[], str],
        named_in: Path | None = None,
    ) -> None:
        self.path, self.skipped, self.digest = path, tuple(sorted(skip)), digest
        self._table, self._reading, self._named_in = table, reading, named_in
        self._cells = table.cells(column)
        self._numbers = rows_where(path, len(table), reading.where, self._values) if reading.where else None
        if skip:
            left_out = [self._number(name) for name in skip]
            kept = np.arange(len(table)) if self._numbers is None else self._numbers
            self._numbers = kept[~np.isin(kept, left_out)]
            if not len(self._numbers):
                raise InputError(f"{path} contains no readable rows")

    def __len__(self) -> int:
        return len(self._table) if self._numbers is None else len(self._numbers)

    def name(self, place: int) -> str:
        """The name of a row, by its number in the table."""
        return self._table.name(self._row(place))

    def content(self, place: int) -> bytes:
        """The content of a row, or of the file that it names."""
        content = self._cells.read(self._row(place))
        if self._named_in is None:
            return content
        with open_regular(beside(self._named_in, content.decode(errors="replace"))) as file:
            return file.read()

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The label of each row; -1 if it has none."""
        labels = self._labels.values
        return labels if self._numbers is None else labels[self._numbers]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; empty if they have none."""
        return self._labels.classes

    @property
    def names(self) -> Sequence[str]:
        """The ids of the rows; empty if they have none."""
        ids = self._table.ids()
        return ids if self._numbers is None or not len(ids) else [ids[row] for row in self._numbers]

    @cached_property
    def _labels(self) -> Labels:
        return labels_of(self.path, self._table, self._reading)

    def _row(self, place: int) -> int:
        return place if self._numbers is None else int(self._numbers[place])

    def _number(self, name: str) -> int:
        if (row := self._table.row(name)) is None:
            raise InputError(f"{self.path} contains no {name!r}, which is to be skipped")
        return row

    def _values(self, column: str) -> tuple[pa.ChunkedArray, Sequence[str]]:
        require_column(self.path, self._table.schema, column)
        return self._table.values(column), class_names(self._table.schema, column)
