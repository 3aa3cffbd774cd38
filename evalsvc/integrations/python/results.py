"""Results of the Python interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evalsvc.analysis.item_export import items_frame
from evalsvc.analysis.items import open_items
from evalsvc.analysis.leaderboard import Board, Difference
from evalsvc.core.columns import ScoreColumns
from evalsvc.core.number_format import number, with_both_errors, with_error
from evalsvc.core.settings import Settings
from evalsvc.gates.reports.page import image_sheet
from evalsvc.integrations.python.rendering import ARROWS, Displayable, Grid, record
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.queries import ScoreRow
from evalsvc.store.session import Database
from evalsvc.store.tables import Evaluation

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


COLUMNS = 4
"""Scores side by side in one table."""


@dataclass(frozen=True, repr=False)
class Run(Displayable):
    """One evaluation: a checkpoint under a suite.

    ``scores`` has the scores by label, ``provenance`` tells how they came about. ``samples`` are some images, uint8
    (n, c, h, w), or ``None``. ``computed`` is false where the store had the scores already. A ``callable`` has no
    content that could be recognized, so that it is scored again each time.
    """

    evaluation: int
    model: str
    step: int
    suite: str
    checkpoint: str
    checkpoint_id: int
    scores: Mapping[str, ScoreRow]
    provenance: Mapping[str, Any]
    samples: np.ndarray | None = field(default=None, compare=False)
    computed: bool = True
    callable: bool = False

    @property
    def name(self) -> str:
        """``model@step``."""
        return f"{self.model}@{self.step}"

    def items(self) -> pd.DataFrame:
        """Every sample with its item, values and outcomes, one row each, as ``evalsvc export --items`` writes them.

        Raises:
            InputError: the suite has no scorers.
        """
        with Database(Settings().database).read() as session:
            evaluation = session.get_one(Evaluation, self.evaluation)
            return items_frame(open_items(session, open_artifacts(Settings()), evaluation))

    def _grids(self) -> Iterable[Grid]:
        known = "callables are always scored again" if self.callable else "" if self.computed else "from the store"
        title = f"{self.name} under {self.suite}, evaluation {self.evaluation}{known and f' ({known})'}"
        rows = [
            (f"{row.label} {ARROWS.get(row.direction, '')}".strip(), _value(row), _interval(row))
            for row in self.scores.values()
        ]
        yield Grid(title, ("score", "value ± standard error", "95 %"), rows)

    def _records(self) -> Iterable[Mapping[str, Any]]:
        return map(record, self.scores.values())

    def _repr_html_(self) -> str:
        if self.samples is None or not len(self.samples):
            return super()._repr_html_()
        image = f'<img alt="samples" src="data:image/png;base64,{image_sheet(self.samples[:64], 16)}">'
        return super()._repr_html_() + image


@dataclass(frozen=True, repr=False)
class Comparison(Displayable):
    """Differences of two checkpoints under a suite, b minus a."""

    suite: str
    a: str
    b: str
    differences: Sequence[Difference]

    def __iter__(self) -> Iterator[Difference]:
        return iter(self.differences)

    def _grids(self) -> Iterable[Grid]:
        headings = ("score", "a", "b", "b - a", "95 %", "")
        yield Grid(f"{self.suite}: b = {self.b} against a = {self.a}", headings, [_compared(each) for each in self])

    def _records(self) -> Iterable[Mapping[str, Any]]:
        for each in self:
            low, high = each.interval or (None, None)
            yield {
                "label": each.label,
                "a": each.a.value if each.a else None,
                "b": each.b.value if each.b else None,
                "difference": each.value,
                "stderr": each.stderr,
                "ci_low": low,
                "ci_high": high,
                "stderr_reference": each.stderr_reference,
                "reference_method": each.reference_method,
                "nearness": each.nearness and each.nearness.value,
                "verdict": each.verdict,
                "paired": each.paired,
                "reason": each.reason or each.unpaired,
            }


@dataclass(frozen=True, repr=False)
class Leaderboard(Displayable):
    """Models ranked under a suite: one board for each protocol of the ranking score."""

    boards: Sequence[Board]

    def __iter__(self) -> Iterator[Board]:
        return iter(self.boards)

    def __len__(self) -> int:
        return len(self.boards)

    def _grids(self) -> Iterable[Grid]:
        for board in self:
            for start in range(0, len(board.columns), COLUMNS):
                columns = board.columns[start : start + COLUMNS]
                rows = []
                for entry in board.entries:
                    scores = [entry.scores.get((column.label, column.protocol)) for column in columns]
                    cells = [
                        with_both_errors(
                            score.value,
                            score.stderr,
                            score.stderr_reference if column == board.ranked_by else None,
                            score.target,
                        )
                        if score
                        else "–"
                        for column, score in zip(columns, scores, strict=True)
                    ]
                    rows.append((str(entry.rank), entry.model, f"{entry.step}{entry.mark}", *cells))
                headings = [f"{column.title} {ARROWS.get(column.direction, '')}".strip() for column in columns]
                title = "" if start else f"{board.suite}, ranked by {board.ranked_by.title}"
                yield Grid(title, ("rank", "model", "step", *headings), rows)

    def _records(self) -> Iterable[Mapping[str, Any]]:
        for board in self:
            for entry in board.entries:
                for score in entry.scores.values():
                    yield {"ranked_by": board.ranked_by.title, "rank": entry.rank, **record(score)}


class Scores(Displayable, Sequence[ScoreRow]):
    """Current scores, by model and step."""

    def __init__(self, rows: Sequence[ScoreRow]) -> None:
        self._rows = tuple(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: Any) -> Any:
        return Scores(self._rows[at]) if isinstance(at, slice) else self._rows[at]

    def _grids(self) -> Iterable[Grid]:
        rows = [
            (row.name, row.suite, row.label, with_error(row.value, row.stderr), _interval(row)) for row in self._rows
        ]
        headings = ("checkpoint", "suite", "score", "value ± standard error", "95 %")
        yield Grid(f"scores: {len(rows)}", headings, rows)

    def _records(self) -> Iterable[Mapping[str, Any]]:
        return map(record, self._rows)


def _value(row: ScoreColumns) -> str:
    return with_both_errors(row.value, row.stderr, row.stderr_reference, row.target)


def _interval(row: ScoreRow) -> str:
    return "–" if row.ci_low is None else f"[{number(row.ci_low)}, {number(row.ci_high)}]"


def _compared(each: Difference) -> tuple[str, ...]:
    sides = [with_error(side.value, side.stderr) if side else "–" for side in (each.a, each.b)]
    interval = f"[{number(each.interval[0])}, {number(each.interval[1])}]" if each.interval else "–"
    return each.label, *sides, number(each.value), interval, each.reason or each.verdict
