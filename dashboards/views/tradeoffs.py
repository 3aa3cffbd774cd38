"""Page "Trade-offs": two scores against each other, the Pareto front, and training paths."""

from __future__ import annotations

from typing import Any

import streamlit as st

from evalsvc.analysis.leaderboard import interval_of
from evalsvc.core.cost import SPEED
from evalsvc.dashboards import charts, context
from evalsvc.dashboards.formatting import ARROWS, grid, heading, unique_labels
from evalsvc.dashboards.i18n import metric_name, quantities, say
from evalsvc.dashboards.series import pairs, pareto
from evalsvc.dashboards.url_state import choose, choose_many, switch
from evalsvc.store import dashboard_queries
from evalsvc.store.dashboard_queries import Filter, Measured, Point

MODELS = 8


def page() -> None:
    """Render the page."""
    heading(say("tradeoffs.title"), say("tradeoffs.note"))
    suite = context.suite()
    with context.read_transaction() as session:
        measured = {
            title: each for title, each in context.metrics(session, suite).items() if each.direction != "neutral"
        }
        names = [name for name, _ in dashboard_queries.models(session, suite)]
    axes = [*measured, SPEED.name]
    worth_a_look = pairs(quantities(), axes)
    first = next(iter(worth_a_look), (axes[0], axes[-1]))
    presets = [f"{x} / {y}" for x, y in worth_a_look]
    if presets:
        picked = st.pills(
            say("tradeoffs.pairs"),
            presets,
            key="pair",
            format_func=lambda pair: " / ".join(map(metric_name, pair.split(" / "))),
        )
        if picked and picked != st.session_state.get("pair.before"):
            st.session_state["x.choice"], st.session_state["y.choice"] = picked.split(" / ")
        st.session_state["pair.before"] = picked
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    x = choose("x", say("tradeoffs.x"), axes, first[0], words=metric_name, where=bar)
    y = choose("y", say("tradeoffs.y"), axes, first[1], words=metric_name, where=bar)
    chosen = choose_many("model", say("common.models"), names, names[:MODELS], most=MODELS, where=bar)
    paths = switch("paths", say("tradeoffs.paths"), True)
    if not chosen:
        st.info(say("trends.choose"), icon=":material/touch_app:")
        return
    rows = _rows(suite, measured, x, y, chosen)
    if not rows:
        st.info(say("tradeoffs.nothing"), icon=":material/scatter_plot:")
        return
    shown = [measured.get(axis, SPEED) for axis in (x, y)]
    directions = [str(axis.direction) for axis in shown]
    front = pareto([(row["x"], row["y"]) for row in rows], directions)
    for row, unbeaten in zip(rows, front, strict=True):
        row["front"] = unbeaten
    titles = [
        charts.axis_title(metric_name(axis), each.unit, each.direction)
        for axis, each in zip((x, y), shown, strict=True)
    ]
    lines = {model: list(dict.fromkeys(r["model"] for r in rows if r["of"] == model)) for model in chosen}
    names_ = [line for model in chosen for line in lines[model] or [model]]
    charts.show(charts.scatter(rows, titles, names_, paths=paths), rows, "tradeoff", say("tradeoffs.title"))
    st.caption(say("tradeoffs.front_mark"))
    named = {axis: f"{metric_name(axis)} {ARROWS[d]}" for axis, d in zip((x, y), directions, strict=True)}
    headings = [unique_labels(named, [say("common.checkpoint")])[axis] for axis in (x, y)]
    grid(
        [
            {say("common.checkpoint"): row["name"], headings[0]: row["x"], headings[1]: row["y"]}
            for row in sorted(rows, key=lambda row: row["x"])
            if row["front"]
        ],
        alt=say("tradeoffs.front"),
    )


def _rows(suite: str, measured: dict[str, Measured], x: str, y: str, models: list[str]) -> list[dict[str, Any]]:
    found: list[dict[int, Point]] = []
    with context.read_transaction() as session:
        for axis in (x, y):
            metric = measured.get(axis)
            if metric is not None:
                points = dashboard_queries.points(
                    session, Filter(suite, models=tuple(models)), metric.label, metric.protocol
                )
                found.append({point.evaluation_id: point for point in points})
        if SPEED.name in (x, y):
            speeds = dashboard_queries.speeds(session, [evaluation for each in found for evaluation in each])
    rows = []
    shared = set.intersection(*(set(each) for each in found)) if found else set()
    for evaluation in sorted(shared, key=lambda e: (found[0][e].model, found[0][e].step)):
        points = [each[evaluation] for each in found]
        row: dict[str, Any] = {
            "name": points[0].name,
            "of": points[0].model,
            "model": points[0].line,
            "step": points[0].step,
        }
        for letter, axis in (("x", x), ("y", y)):
            if axis == SPEED.name:
                speed = speeds.get(evaluation)
                row |= {letter: speed, f"{letter}_low": speed, f"{letter}_high": speed}
            else:
                point = points.pop(0) if len(points) > 1 else points[0]
                low, high = (point.value if end is None else end for end in interval_of(point, "sampled"))
                row |= {letter: point.value, f"{letter}_low": low, f"{letter}_high": high}
        if row["x"] is not None and row["y"] is not None:
            rows.append(row)
    return rows


page()
