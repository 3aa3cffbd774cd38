"""Page "Trends": a score over training steps, with the gate limits of that time."""

from __future__ import annotations

import streamlit as st

from evalsvc.analysis.leaderboard import interval_of
from evalsvc.dashboards import charts, context
from evalsvc.dashboards.formatting import grid, heading, interval
from evalsvc.dashboards.i18n import metric_name, say
from evalsvc.dashboards.series import best_so_far, gate_lines, line_names, lines, loss, right_values
from evalsvc.dashboards.url_state import choose, choose_many, switch
from evalsvc.store import dashboard_queries, queries, status_queries
from evalsvc.store.dashboard_queries import Filter, Measured, Point

MODELS = 8
# From this ratio of the largest to the smallest value on, the default is a logarithmic scale.
WIDE = 20


def page() -> None:
    """Render the page."""
    heading(say("trends.title"), say("trends.note"))
    suite = context.suite()
    with context.read_transaction() as session:
        measured = context.metrics(session, suite)
        names = [name for name, _ in dashboard_queries.models(session, suite)]
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    title = choose("metric", say("common.metric"), list(measured), words=metric_name, where=bar)
    chosen = choose_many("model", say("common.models"), names, names[:MODELS], most=MODELS, where=bar)
    row = st.container(horizontal=True)
    if not chosen:
        st.info(say("trends.choose"), icon=":material/touch_app:")
        return
    metric = measured[title]
    with context.read_transaction() as session:
        points = dashboard_queries.points(session, Filter(suite, models=tuple(chosen)), metric.label, metric.protocol)
        failures = status_queries.failed(session, suite, chosen)
        decided = [gate for name in chosen for gate in queries.gates(session, name, suite)]
    if not points:
        st.info(say("trends.nothing"), icon=":material/timeline:")
        return
    values = [point.value for point in points]
    positive = min(values) > 0
    log = positive and switch("log", say("trends.log"), max(values) > WIDE * min(values), where=row)
    log_steps = switch("log_steps", say("trends.log_steps"), where=row)
    best = metric.direction != "neutral" and switch("best", say("trends.best"), where=row)
    gated = bool(decided) and switch("gates", say("trends.limits"), True, where=row)
    if best:
        points = best_so_far(points, metric.direction)
    rows = lines(points, failures, log)
    failed_rows = [{"model": f.line, "step": f.step, "words": f"{f.name}: {f.error}"[:200]} for f in failures]
    limits, baselines = gate_lines(decided if gated else [], metric)
    right = [{**each, "words": f"{say('trends.right')} · {each['words']}"} for each in right_values(points, log)]
    chart = charts.trend(
        rows,
        charts.axis_title(metric_name(title), metric.unit, metric.direction),
        line_names(points, chosen),
        limits=limits,
        failures=failed_rows,
        baseline=[*baselines, *right],
        log=log,
        log_steps=log_steps,
    )
    charts.show(chart, rows, "trend", say("trends.drawn", metric=metric_name(title), count=len(points)))
    _legend(bool(limits), bool(baselines), bool(right), bool(failed_rows))
    _table(points, metric)


def _legend(limits: bool, baselines: bool, right: bool, failures: bool) -> None:
    marks = [
        say(f"trends.{key}_mark")
        for key, there in (("limit", limits), ("baseline", baselines), ("right", right), ("failed", failures))
        if there
    ]
    st.caption(" · ".join([say("trends.band_mark"), *marks]))


def _table(points: list[Point], metric: Measured) -> None:
    latest = {point.line: point for point in points}
    rows = []
    for model, last in latest.items():
        own = [point for point in points if point.line == model]
        top = min(own, key=lambda point: loss(point, metric.direction))
        rows.append(
            {
                say("common.model"): model,
                say("trends.last"): last.value,
                say("common.interval"): interval(*interval_of(last, "sampled")),
                say("trends.at"): last.step,
                say("trends.best_value"): None if metric.direction == "neutral" else top.value,
                say("trends.best_at"): None if metric.direction == "neutral" else top.step,
                say("trends.points"): len(own),
            }
        )
    grid(rows, alt=say("trends.title"))


page()
