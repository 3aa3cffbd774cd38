"""Sliced scores as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from sqlalchemy.orm import Session

from evalsvc.cli.console import ARROWS, number, table, with_error
from evalsvc.core.columns import ScoreColumns
from evalsvc.inputs.slice_labels import parts, worst_label
from evalsvc.store import queries

Sliced = dict[str, Sequence[ScoreColumns]]
"""The slices of each sliced score of an evaluation, the worst last."""


def worst_slices(session: Session, suite: str, most: int) -> Table:
    """The first ``most`` sliced scores of a suite: for every checkpoint the score and its worst slice.

    The interval of the worst slice is for the worst of all (simultaneous).
    """
    by_run: dict[int, list[ScoreColumns]] = {}
    for row in queries.scores(session, suite=suite):
        by_run.setdefault(row.evaluation_id, []).append(row)
    slices = {run: _slices(session, rows) for run, rows in by_run.items()}
    labels = list(dict.fromkeys(label for each in slices.values() for label in each))[:most]
    directions = {row.label: row.direction for rows in by_run.values() for row in rows}
    heads = [head for label in labels for head in (f"{label} {ARROWS[directions[label]]}", "worst slice")]
    made = table(f"{suite}: the worst slice of each checkpoint", "model", "step", *heads, right=("step", *heads[::2]))
    for run, rows in by_run.items():
        whole = {row.label: with_error(row.value, row.stderr) for row in rows}
        cells = [
            cell for label in labels for cell in (whole.get(label, "–"), _worst(label, slices[run].get(label, ())))
        ]
        made.add_row(rows[0].model + rows[0].mark, str(rows[0].step), *cells)
    return made


def _slices(session: Session, rows: Sequence[ScoreColumns]) -> Sliced:
    found = {row.label: queries.slices(session, row.evaluation_id, row.label) for row in rows}
    return {label: each for label, each in found.items() if each}


def _worst(whole: str, slices: Sequence[ScoreColumns]) -> str:
    worst = next((row for row in slices if row.label == worst_label(whole)), None)
    if worst is None:
        return "–"
    same = [row for row in slices if row.value == worst.value and row is not worst]
    where = next((f"{by}={value}" for row in same if (cut := parts(row.label)) for _, by, value in [cut]), "")
    low_high = f" [{number(worst.ci_low)}, {number(worst.ci_high)}]" if worst.ci_low is not None else ""
    return f"{where}: {number(worst.value)}{low_high}"
