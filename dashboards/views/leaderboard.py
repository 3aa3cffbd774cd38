"""Page "Leaderboard": one table per protocol, sorted by the database, fifty checkpoints per page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time
from typing import Any

import pandas as pd
import streamlit as st

from evalsvc.analysis.differences import rows_of_reference
from evalsvc.analysis.leaderboard import best_first, interval_of, ranks
from evalsvc.core.spreadsheets import as_csv
from evalsvc.dashboards import charts, context
from evalsvc.dashboards.formatting import (
    ARROWS,
    card,
    cut,
    heading,
    html,
    interval,
    number,
    safe,
    unique_labels,
    with_error,
)
from evalsvc.dashboards.i18n import metric_name, say
from evalsvc.dashboards.series import right_values
from evalsvc.dashboards.url_state import choose, choose_many, day, page_number
from evalsvc.metrics.score import Reference
from evalsvc.store import dashboard_queries
from evalsvc.store.dashboard_queries import Filter, Measured, Point

ROWS = 50
DRAWN = 12
SPARK = 40

Ends = tuple[float | None, float | None]


def page() -> None:
    """Render the page."""
    heading(say("leaderboard.title"), say("leaderboard.note"))
    suite = context.suite()
    with context.read_transaction() as session:
        measured = context.metrics(session, suite)
        families = sorted({family for _, family in dashboard_queries.models(session, suite) if family})
        aliases = sorted({name for names in dashboard_queries.tags(session).values() for name in names})
    ranked = [title for title, each in measured.items() if each.direction != "neutral"]
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    title = choose("metric", say("common.metric"), ranked, words=metric_name, where=bar)
    which = choose(
        "which",
        say("leaderboard.which"),
        ["latest", "all"],
        words=lambda w: say(f"leaderboard.{w}"),
        style="segments",
        where=bar,
    )
    holds = choose(
        "reference",
        say("leaderboard.reference"),
        ["sampled", "fixed"],
        words=lambda w: say(f"leaderboard.{w}"),
        style="segments",
        where=bar,
    )
    with bar.popover(say("leaderboard.filter"), icon=":material/filter_alt:"):
        wanted = _filter(suite, families, aliases)
    with bar.popover(say("leaderboard.columns"), icon=":material/view_column:"):
        others = [other for other in measured if other != title]
        shown = choose_many("columns", say("leaderboard.columns"), others, others[:8], words=metric_name)
    metric = measured[title]
    with context.read_transaction() as session:
        points = dashboard_queries.points(
            session, wanted, metric.label, metric.protocol, "latest" if which == "latest" else "all"
        )
    if not points:
        st.info(say("leaderboard.nobody"), icon=":material/filter_alt_off:")
        return
    points = best_first(points)
    reference: Reference = "fixed" if holds == "fixed" else "sampled"
    places, ends = ranks(points, reference), [interval_of(point, reference) for point in points]
    left, right = st.columns([1, 1.9], gap="medium")
    with left:
        _leader(points, places, metric, ends[0])
    with right:
        _drawn(points, ends, metric, title)
    shown_page = page_number("page", -(-len(points) // ROWS))
    chosen = slice(shown_page * ROWS, (shown_page + 1) * ROWS)
    _table(suite, points[chosen], places[chosen], ends[chosen], measured, title, shown)
    if any(point.reference_method for point in points) or rows_of_reference(metric.facts):
        unknown = any(point.stderr_reference is None for point in points) and reference == "sampled"
        st.caption(say(f"leaderboard.holds_{'unknown' if unknown else reference}"))


def _drawn(points: list[Point], ends: list[Ends], metric: Measured, title: str) -> None:
    """The first entries with their intervals."""
    rows = [
        {
            "name": p.name,
            "value": p.value,
            "low": _or(low, p.value),
            "high": _or(high, p.value),
            "group": p.family or p.model,
        }
        for p, (low, high) in list(zip(points, ends, strict=True))[:DRAWN]
    ]
    words = charts.axis_title(metric_name(title), metric.unit, metric.direction)
    right = right_values(points, log=False)
    charts.show(
        charts.forest(rows, words, rules=[each["value"] for each in right]),
        rows,
        "leaderboard-intervals",
        say("leaderboard.drawn", count=len(rows), metric=metric_name(title)),
    )
    if right:
        st.caption(say("trends.right_mark"))


def _filter(suite: str, families: list[str], aliases: list[str]) -> Filter:
    chosen = choose_many("family", say("common.family"), families)
    tags = choose_many("alias", say("common.alias"), aliases)
    days = [day(key, say(f"leaderboard.{key}")) for key in ("since", "until")]
    since, until = (datetime.combine(each, time.min, UTC) if each else None for each in days)
    return Filter(suite, families=tuple(chosen), aliases=tuple(tags), since=since, until=until)


def _leader(points: list[Point], places: list[int], metric: Measured, ends: Ends) -> None:
    first = points[0]
    others = [p for p, place in zip(points, places, strict=True) if place == 1 and p is not first]
    if not others:
        note = say("leaderboard.sure") if len(points) > 1 else say("leaderboard.alone")
    else:
        names = ", ".join(html(p.name) for p in others[:4]) + (" …" if len(others) > 4 else "")
        note = say("leaderboard.shared", names=names)
    value = f"{with_error(first.value, first.stderr)} {html(metric.unit)}"
    card(
        say("leaderboard.leads"),
        html(first.name).replace("@", "<wbr>@"),
        value,
        f"{note}<br>{say('common.interval')} {interval(*ends)} · n = {first.n:,}",
    )


def _table(
    suite: str,
    points: list[Point],
    places: list[int],
    ends: list[Ends],
    measured: dict[str, Measured],
    title: str,
    shown: list[str],
) -> None:
    metric = measured[title]
    with context.read_transaction() as session:
        cells = dashboard_queries.cells(
            session, [p.evaluation_id for p in points], {measured[name].label for name in shown}
        )
        seeds = dashboard_queries.seeds(session, suite, [p.checkpoint_id for p in points])
        tags = dashboard_queries.tags(session)
        path = dashboard_queries.points(
            session, Filter(suite, models=tuple({p.model for p in points})), metric.label, metric.protocol
        )
    ours = ("rank", "spark", "seeds", "scored")
    common = ("model", "step", "told_apart", "interval", "of_reference", "family", "alias")
    taken = ["n", *(say(f"leaderboard.{key}") for key in ours), *(say(f"common.{key}") for key in common)]
    headings = unique_labels(
        {name: cut(f"{metric_name(name)} {ARROWS[measured[name].direction]}").strip() for name in (title, *shown)},
        taken,
    )
    columns: dict[str, list[Any]] = {
        say("leaderboard.rank"): places,
        say("common.model"): [cut(p.model) for p in points],
        say("common.step"): [p.step for p in points],
        **({say("common.told_apart"): [cut(p.mark) for p in points]} if any(p.mark for p in points) else {}),
        headings[title]: [p.value for p in points],
        say("common.interval"): [interval(*each) for each in ends],
        **(
            {say("common.of_reference"): [number(p.stderr_reference, 2) for p in points]}
            if any(p.reference_method for p in points)
            else {}
        ),
        **(
            {say("trends.right"): [None if p.target is None else with_error(p.target, p.target_stderr) for p in points]}
            if any(p.target is not None for p in points)
            else {}
        ),
        say("leaderboard.spark"): [_spark([q.value for q in path if q.line == p.line]) for p in points],
    }
    errors = {headings[title]: [p.stderr for p in points]}
    for name in shown:
        other = measured[name]
        found = [cells.get(p.evaluation_id, {}).get((other.label, other.protocol)) for p in points]
        columns[headings[name]] = [each.value if each else None for each in found]
        errors[headings[name]] = [each.stderr if each else None for each in found]
    columns |= {
        say("common.family"): [cut(p.family) for p in points],
        say("common.alias"): [[cut(name) for name in tags.get(p.checkpoint_id, [])] for p in points],
        "n": [p.n for p in points],
        say("leaderboard.seeds"): [seeds.get(p.checkpoint_id, 1) for p in points],
        say("leaderboard.scored"): [p.created_at for p in points],
    }
    frame = pd.DataFrame(columns)
    styler = frame.style.format({heading: _formatter(columns[heading], stderrs) for heading, stderrs in errors.items()})
    picked = st.dataframe(
        styler,
        hide_index=True,
        height=min(38 * len(points) + 40, 640),
        row_height=38,
        key=f"board.{suite}.{title}",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            say("leaderboard.rank"): st.column_config.NumberColumn(width=60, pinned=True),
            say("common.model"): st.column_config.TextColumn(width="medium", pinned=True),
            say("common.step"): st.column_config.NumberColumn(width="small"),
            say("leaderboard.spark"): st.column_config.LineChartColumn(
                width="small", help=say("leaderboard.spark_help")
            ),
            say("leaderboard.scored"): st.column_config.DatetimeColumn(format="distance", width="small"),
        },
        alt=say("leaderboard.title"),
    )
    rows = picked["selection"]["rows"] if picked else []
    foot = st.container(horizontal=True, vertical_alignment="center")
    foot.download_button(
        "CSV",
        lambda: as_csv([{str(name): cell for name, cell in row.items()} for row in frame.to_dict("records")]),
        "leaderboard.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
    )
    foot.caption(say("leaderboard.protocol", protocol=safe(metric.protocol), checkpoints=metric.checkpoints))
    if rows:
        st.switch_page("views/checkpoint.py", query_params={"checkpoint": points[rows[0]].name, "suite": suite})


def _formatter(values: list[float | None], stderrs: list[float | None]) -> Callable[[Any], str]:
    """Format numbers with their errors while keeping them numeric, so that columns sort correctly."""
    errors = dict(zip(values, stderrs, strict=True))
    return lambda value: "–" if pd.isna(value) else with_error(value, errors[value])


def _spark(values: list[float]) -> list[float]:
    return values[:: max(1, len(values) // SPARK)]


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


page()
