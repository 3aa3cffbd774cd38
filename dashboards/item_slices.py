"""The slices of a score of one checkpoint, the worst first, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from evalsvc.core.spreadsheets import as_csv
from evalsvc.dashboards import charts, context
from evalsvc.dashboards.formatting import card, cut, grid, html, interval, with_error
from evalsvc.dashboards.i18n import metric_name, say
from evalsvc.dashboards.url_state import choose
from evalsvc.inputs.slice_labels import worst_label
from evalsvc.store import dashboard_queries, queries
from evalsvc.store.dashboard_queries import Point
from evalsvc.store.queries import ScoreRow

DRAWN = 30


def show(point: Point, other: Point | None, bar: DeltaGenerator) -> None:
    """Render this part of the page; ``other`` is the checkpoint to compare with, and widgets are added to ``bar``."""
    with context.read_transaction() as session:
        labels = dashboard_queries.sliced(session, point.evaluation_id)
    if not labels:
        st.info(say("items.no_slices"), icon=":material/pie_chart:")
        return
    label = choose("score", say("common.metric"), labels, words=metric_name, where=bar)
    with context.read_transaction() as session:
        (whole,) = queries.scores(session, evaluation=point.evaluation_id, label=label)
        found = queries.slices(session, point.evaluation_id, label)
        others = queries.slices(session, other.evaluation_id, label) if other is not None else []
    rows = worst_first(found, label)
    worst = next((row for row in found if row.label == worst_label(label)), None)
    left, right = st.columns([1, 1.9], gap="medium")
    with left:
        _card(rows, worst, whole)
    with right:
        drawn = [
            _drawn(whole, say("items.whole"), 0),
            *(_drawn(row, slice_name(row, label), 1) for row in rows[:DRAWN]),
        ]
        words = charts.axis_title(metric_name(label), whole.unit, whole.direction)
        alternative = say("items.slices_drawn", count=len(drawn) - 1, metric=metric_name(label))
        charts.show(charts.forest(drawn, words), drawn, "slices", alternative)
    _table(rows, label, {row.label: row for row in others}, other)


def worst_first(rows: Sequence[ScoreRow], label: str) -> list[ScoreRow]:
    """The slices of a score without its worst slice, which one of them is; without a direction the largest first."""
    own = [row for row in rows if row.label != worst_label(label)]
    return sorted(own, key=lambda row: row.value, reverse=bool(rows) and rows[0].direction != "higher")


def slice_name(row: ScoreRow, label: str) -> str:
    """The tag and value of a slice: ``lang=de`` of ``wer[lang=de]``."""
    return row.label.removeprefix(f"{label}[").removesuffix("]")


def _card(rows: Sequence[ScoreRow], worst: ScoreRow | None, whole: ScoreRow) -> None:
    first = rows[0] if rows else whole
    shown = worst or first
    card(
        say("items.worst_slice"),
        html(slice_name(first, whole.label)),
        f"{with_error(shown.value, shown.stderr)} {html(shown.unit)}",
        f"{say('items.simultaneous' if worst else 'common.interval')} {interval(shown.ci_low, shown.ci_high)}"
        f" · n = {first.n:,}<br>{say('items.whole')}: {with_error(whole.value, whole.stderr)}",
    )


def _drawn(row: ScoreRow, name: str, group: int) -> dict[str, object]:
    low, high = (row.value if end is None else end for end in (row.ci_low, row.ci_high))
    return {"name": name, "value": row.value, "low": low, "high": high, "group": str(group)}


def _table(rows: Sequence[ScoreRow], label: str, others: dict[str, ScoreRow], other: Point | None) -> None:
    table = []
    for row in rows:
        cells: dict[str, object] = {
            say("items.slice"): slice_name(row, label),
            say("common.value"): row.value,
            say("common.interval"): interval(row.ci_low, row.ci_high),
            "n": row.n,
        }
        if other is not None:
            beside = others.get(row.label)
            cells[cut(other.name)] = with_error(beside.value, beside.stderr) if beside else "–"
        table.append(cells)
    grid(table, height=min(36 * len(table) + 40, 620), alt=say("items.slices"))
    st.download_button("CSV", as_csv(table), "slices.csv", "text/csv", icon=":material/download:", on_click="ignore")
