"""Results as plain text, as HTML for notebooks, and as data frames."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evalsvc.core.columns import ScoreColumns
from evalsvc.core.errors import one_line

if TYPE_CHECKING:
    from pandas import DataFrame

WIDTH = 120
ARROWS = {"lower": "↓", "higher": "↑"}
_CELL = "text-align:left;padding:.2rem .8rem .2rem 0"


@dataclass(frozen=True)
class Grid:
    """A table of texts. The texts may come from anywhere: rendering makes them harmless."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def rich(self) -> Table:
        """The table for a terminal, without its title."""
        made = Table()
        for heading in self.headings:
            made.add_column(Text(one_line(heading)))
        for row in self.rows:
            made.add_row(*(Text(one_line(cell)) for cell in row))
        return made

    def html(self) -> str:
        """The table for a notebook."""
        head = "".join(f'<th style="{_CELL}">{_escaped(heading)}</th>' for heading in self.headings)
        body = "".join(
            "<tr>" + "".join(f'<td style="{_CELL}">{_escaped(cell)}</td>' for cell in row) + "</tr>"
            for row in self.rows
        )
        title = f"<p><b>{_escaped(self.title)}</b></p>" if self.title else ""
        return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class Displayable(ABC):
    """A result that shows itself as tables, and as a data frame."""

    @abstractmethod
    def _grids(self) -> Iterable[Grid]: ...

    @abstractmethod
    def _records(self) -> Iterable[Mapping[str, Any]]: ...

    def to_frame(self) -> DataFrame:
        """The result as a :class:`pandas.DataFrame`, one row a score."""
        import pandas as pd

        return pd.DataFrame.from_records(list(self._records()))

    def __repr__(self) -> str:
        written = io.StringIO()
        console = Console(file=written, width=WIDTH, color_system=None)
        for grid in self._grids():
            if grid.title:
                console.print(Text(one_line(grid.title)), soft_wrap=True)
            console.print(grid.rich())
        return written.getvalue().rstrip()

    def _repr_html_(self) -> str:
        return "".join(grid.html() for grid in self._grids())


def record(row: ScoreColumns) -> dict[str, Any]:
    """One score as a row of a data frame."""
    return {name: value for name, value in asdict(row).items() if name not in ("facts", "position")}


def _escaped(text: str) -> str:
    return escape(one_line(text))
