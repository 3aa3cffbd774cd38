"""All charts, with one library (Vega-Altair) and one theme. Functions take rows and return a chart.

Columns have fixed names, so that an untrusted name is never interpreted as a field, a format or a link.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import altair as alt
import streamlit as st

from evalsvc.core.spreadsheets import as_csv
from evalsvc.dashboards.chart_data import DECODE_NAME, MARK, Rows, encode_names, table
from evalsvc.dashboards.formatting import TEXT, cut
from evalsvc.dashboards.i18n import say

LIGHT = ("#0063A6", "#C4490A", "#007A5A", "#A8377F", "#8A6100", "#5A3FC0", "#1C7FA8", "#5F6368")
DARK = ("#6DB7F2", "#FF9A5C", "#3FCFA0", "#EE97CC", "#EBC54A", "#B9A5FF", "#7FD6EC", "#B6BBC2")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
GOOD, BAD, OPEN, NEUTRAL = "#1F8A70", "#D6452B", "#C98500", "#7D8590"
STATUS = {
    "PASS": GOOD,
    "FAIL": BAD,
    "ERROR": BAD,
    "INCONCLUSIVE": OPEN,
    "MISSING": NEUTRAL,
    "NOT_COMPARABLE": "#8E6BD8",
    "UNKNOWN": NEUTRAL,
}
VERDICT = {
    "better": GOOD,
    "worse": BAD,
    "unsure": NEUTRAL,
    "differs": "#5A8DEE",
    **dict.fromkeys(("better on this reference", "worse on this reference", "differs on this reference"), OPEN),
}
HEIGHT = 380

Chart = alt.Chart | alt.LayerChart | alt.FacetChart

alt.data_transformers.disable_max_rows()


def dark() -> bool:
    """Whether the session uses its dark theme."""
    return bool(st.context.theme.type == "dark")


def neutral_color() -> str:
    """The color of neutral lines."""
    return "#C9CDD6" if dark() else "#3A3F4B"


def axis_title(metric: str, unit: str, direction: str) -> str:
    """``Fréchet distance (squared feature units), lower is better``."""
    words = cut(f"{metric} ({unit})" if unit else metric)
    return words if direction == "neutral" else f"{words} · {say(f'common.{direction}')}"


def palette(names: Sequence[str]) -> tuple[alt.Scale, alt.Scale]:
    """Colors and shapes by name, the same for the same list; shapes distinguish names beyond the number of colors."""
    palette = DARK if dark() else LIGHT
    colors = [palette[i % len(palette)] for i in range(len(names))]
    shapes = [SHAPES[i % len(SHAPES)] for i in range(len(names))]
    return alt.Scale(domain=list(names), range=colors), alt.Scale(domain=list(names), range=shapes)


def legend() -> alt.Legend:
    """The names of lines, above a chart."""
    return alt.Legend(
        orient="top", symbolType="circle", symbolSize=110, symbolOpacity=1, labelLimit=240, labelExpr=DECODE_NAME
    )


def forest(rows: Rows, title: str, *, rules: Sequence[float] = (), colors: Mapping[str, str] | None = None) -> Chart:
    """Estimates with intervals, one row per line: ``name, value, low, high`` and a ``group`` that
    determines the color. ``rules`` are values with a vertical line.
    """
    groups = list(dict.fromkeys(str(row["group"]) for row in rows))
    codes = encode_names(dict.fromkeys([*groups, *(row["name"] for row in rows), *(colors or ())]))
    scales = [codes[group] for group in colors or groups]
    color = alt.Scale(domain=scales, range=list(colors.values())) if colors else palette(scales)[0]
    axis = alt.Axis(labelLimit=220, labelExpr=DECODE_NAME, ticks=False, domain=False)
    y = alt.Y("name:N", sort=None, title=None, axis=axis)
    data = table(rows, codes, "name", "group")
    base = alt.Chart(data).encode(y=y, color=alt.Color("group:N", scale=color, legend=None))
    tips = [
        alt.Tooltip("label:N", title=" "),
        alt.Tooltip("value:Q", format=".4g"),
        alt.Tooltip("low:Q", format=".4g"),
        alt.Tooltip("high:Q", format=".4g"),
    ]
    bars = base.mark_rule(strokeWidth=3, opacity=0.55, strokeCap="round").encode(
        x=alt.X("low:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6)), x2="high:Q"
    )
    dots = base.mark_point(filled=True, size=95, opacity=1).encode(x="value:Q", tooltip=tips)
    layers = [bars, dots]
    if rules:
        lines = alt.Chart(table([{"at": at} for at in rules]))
        layers.insert(0, lines.mark_rule(strokeDash=[4, 4], color=neutral_color()).encode(x="at:Q"))
    return alt.layer(*layers).properties(height=max(120, 30 * len(rows) + 40))


def trend(
    rows: Rows,
    title: str,
    names: Sequence[str],
    *,
    limits: Rows = (),
    failures: Rows = (),
    baseline: Rows = (),
    log: bool = False,
    log_steps: bool = False,
) -> Chart:
    """A score over training steps, one line per model with its interval as a band.

    ``rows`` are ``model, step, value, low, high, run``: a line connects points of one ``run``, so that a failed
    evaluation leaves a gap. ``limits`` are ``step, limit, status, words`` of gate decisions; ``failures`` are ``model,
    step, why``.
    """
    codes = encode_names(dict.fromkeys([*names, *(row["model"] for row in [*rows, *failures])]))
    color, shape = palette([codes[name] for name in names])
    x_scale = alt.Scale(type="symlog" if log_steps else "linear", nice=False)
    x = alt.X("step:Q", title=say("trends.step"), scale=x_scale, axis=alt.Axis(format="~s", grid=False, tickCount=8))
    y_scale = alt.Scale(type="log" if log else "linear", zero=False, nice=not log)
    y = alt.Y("value:Q", title=title, scale=y_scale, axis=alt.Axis(tickCount=6, titleLimit=360))
    data = table([{**row, "run": MARK + row["run"]} for row in rows], codes, "model")
    base = alt.Chart(data).encode(x=x, color=alt.Color("model:N", scale=color, title=None, legend=legend()))
    band = base.mark_area(opacity=0.16).encode(
        y=alt.Y("low:Q", title=title, scale=y_scale), y2="high:Q", detail="run:N"
    )
    line = base.mark_line(strokeWidth=2.4, strokeJoin="round").encode(y=y, detail="run:N")
    tips = [
        alt.Tooltip("label:N", title=say("common.model")),
        alt.Tooltip("step:Q", title=say("trends.step")),
        alt.Tooltip("value:Q", format=".4g", title=say("common.value")),
        alt.Tooltip("words:N", title=say("common.interval")),
    ]
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        y=y, shape=alt.Shape("model:N", scale=shape, legend=None), tooltip=tips
    )
    layers: list[Any] = [alt.layer(band, line, points)]
    if baseline:
        rule = alt.Chart(table(baseline)).mark_rule(strokeDash=[6, 4], strokeWidth=1.6, color=neutral_color())
        layers.append(rule.encode(y=y, tooltip=[alt.Tooltip("words:N", title=say("trends.baseline"))]))
    if limits:
        known = alt.Scale(domain=list(STATUS), range=list(STATUS.values()))
        tick = alt.Chart(table(limits)).mark_tick(orient="horizontal", thickness=3, size=34, opacity=1)
        layers.append(
            tick.encode(
                x=x,
                y=alt.Y("limit:Q", scale=y_scale),
                color=alt.Color("status:N", scale=known, legend=None),
                tooltip=[alt.Tooltip("words:N", title=say("trends.limit"))],
            )
        )
    if failures:
        cross = alt.Chart(table(failures)).mark_text(text="✕", fontSize=16, fontWeight="bold", color=BAD)
        tip = alt.Tooltip("words:N", title=say("trends.failed"))
        layers.append(cross.encode(x=x, y=alt.value(HEIGHT - 12), tooltip=[tip]))
    return alt.layer(*layers).resolve_scale(color="independent").properties(height=HEIGHT)


def parallel(rows: Rows, names: Sequence[str], title: str) -> Chart:
    """Parallel coordinates: ``metric, name, share, value``, one line per name."""
    codes = encode_names(dict.fromkeys([*names, *(row["metric"] for row in rows)]))
    color, shape = palette([codes[name] for name in names])
    axis = alt.Axis(labelAngle=-35, labelLimit=150, labelExpr=DECODE_NAME, grid=True, ticks=False)
    data = table([{**row, "said": f"{row['metric']}: {row['value']}"} for row in rows], codes, "name", "metric")
    base = alt.Chart(data).encode(
        x=alt.X("metric:N", sort=None, title=None, axis=axis),
        y=alt.Y("share:Q", title=title, axis=alt.Axis(format="%", tickCount=3, grid=False)),
        color=alt.Color("name:N", scale=color, title=None, legend=legend()),
        detail="name:N",
    )
    tips = [alt.Tooltip("label:N", title=say("common.checkpoint")), alt.Tooltip("said:N", title=say("common.value"))]
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        shape=alt.Shape("name:N", scale=shape, legend=None), tooltip=tips
    )
    return alt.layer(base.mark_line(strokeWidth=2.2), points).properties(height=300)


def scatter(rows: Rows, titles: Sequence[str], names: Sequence[str], *, paths: bool) -> Chart:
    """Two scores against each other: ``model, step, name, x, y``, interval ends ``x_low, ...``, and ``front``."""
    codes = encode_names(dict.fromkeys([*names, *(row[key] for row in rows for key in ("name", "model"))]))
    color, shape = palette([codes[name] for name in names])
    wide = alt.Scale(zero=False, padding=18)
    x = alt.X("x:Q", title=titles[0], scale=wide, axis=alt.Axis(tickCount=7))
    y = alt.Y("y:Q", title=titles[1], scale=wide, axis=alt.Axis(tickCount=6))
    data = table(rows, codes, "name", "model")
    base = alt.Chart(data).encode(color=alt.Color("model:N", scale=color, title=None, legend=legend()))
    bars = [
        base.mark_rule(opacity=0.35).encode(x=alt.X("x_low:Q", title=titles[0], scale=wide), x2="x_high:Q", y=y),
        base.mark_rule(opacity=0.35).encode(y=alt.Y("y_low:Q", title=titles[1], scale=wide), y2="y_high:Q", x=x),
    ]
    tips = [alt.Tooltip("label:N", title=" "), alt.Tooltip("x:Q", format=".4g"), alt.Tooltip("y:Q", format=".4g")]
    points = base.mark_point(filled=True).encode(
        x=x,
        y=y,
        shape=alt.Shape("model:N", scale=shape, legend=None),
        size=alt.condition("datum.front", alt.value(170), alt.value(60)),
        opacity=alt.condition("datum.front", alt.value(1), alt.value(0.55)),
        tooltip=tips,
    )
    front = alt.Chart(table(sorted((row for row in rows if row["front"]), key=lambda row: float(row["x"]))))
    edge = front.mark_line(strokeDash=[5, 4], strokeWidth=1.8, color=neutral_color()).encode(x=x, y=y, order="x:Q")
    layers = [*bars, edge, points]
    if paths:
        layers.insert(0, base.mark_line(opacity=0.45, strokeWidth=1.5).encode(x=x, y=y, order="step:Q"))
    return alt.layer(*layers).properties(height=460)


def timeline(rows: Rows) -> Chart:
    """Decisions over time, one row per model: ``at, model, status, words, reason``."""
    statuses = [status for status in STATUS if any(row["status"] == status for row in rows)]
    color = alt.Scale(domain=statuses, range=[STATUS[status] for status in statuses])
    shape = alt.Scale(
        domain=statuses,
        range=["circle" if s == "PASS" else "cross" if s in ("FAIL", "ERROR") else "diamond" for s in statuses],
    )
    outcomes = alt.Legend(orient="top", title=None, symbolSize=130)
    tips = [alt.Tooltip("words:N", title=say("gates.choose")), alt.Tooltip("reason:N", title=say("gates.reason"))]
    data = table(rows, encode_names(dict.fromkeys(row["model"] for row in rows)), "model")
    axis = alt.Axis(labelLimit=200, labelExpr=DECODE_NAME, grid=True, ticks=False)
    return (
        alt.Chart(data)
        .mark_point(filled=True, size=190, opacity=0.9)
        .encode(
            x=alt.X("at:T", title=None, axis=alt.Axis(tickCount=6, grid=False)),
            y=alt.Y("model:N", title=None, axis=axis),
            color=alt.Color("status:N", scale=color, legend=outcomes),
            shape=alt.Shape("status:N", scale=shape, legend=outcomes),
            tooltip=tips,
        )
        .properties(height=max(110, 40 * len({row["model"] for row in rows}) + 50))
    )


def histogram(rows: Rows, title: str, names: Sequence[str]) -> Chart:
    """Proportions of several sets over the same bins: ``name, low, high, share``."""
    codes = encode_names(dict.fromkeys(names))
    shown = [codes[name] for name in names]
    sets = alt.Legend(orient="top", title=None, symbolSize=130, labelLimit=300, labelExpr=DECODE_NAME)
    return (
        alt.Chart(table(rows, codes, "name"))
        .mark_bar(opacity=0.5, binSpacing=0)
        .encode(
            x=alt.X("low:Q", title=title, bin="binned", axis=alt.Axis(tickCount=8, grid=False)),
            x2="high:Q",
            y=alt.Y("share:Q", title=say("memorization.share"), stack=None, axis=alt.Axis(format="%", tickCount=5)),
            color=alt.Color("name:N", scale=palette(shown)[0], legend=sets, sort=shown),
            tooltip=[
                alt.Tooltip("label:N", title=" "),
                alt.Tooltip("share:Q", format=".1%", title=say("memorization.share")),
            ],
        )
        .properties(height=300)
    )


def heatmap(rows: Rows) -> Chart:
    """Confusion of classes: ``label, predicted, count, share``, a row for each label."""
    tips = [
        alt.Tooltip("label:O", title=say("items.label")),
        alt.Tooltip("predicted:O", title=say("items.predicted")),
        alt.Tooltip("count:Q", format=","),
        alt.Tooltip("share:Q", format=".1%"),
    ]
    scheme = alt.Scale(scheme="blues", domain=[0, 1], reverse=dark())
    return (
        alt.Chart(table(rows))
        .mark_rect()
        .encode(
            x=alt.X("predicted:O", title=say("items.predicted"), axis=alt.Axis(labelAngle=0)),
            y=alt.Y("label:O", title=say("items.label")),
            color=alt.Color("share:Q", title=None, scale=scheme, legend=alt.Legend(format="%")),
            tooltip=tips,
        )
        .properties(height=min(640, 24 * len({row["label"] for row in rows}) + 60))
    )


def feature_map(rows: Rows, names: Sequence[str], titles: Sequence[str]) -> Chart:
    """Selectable points in the plane: ``x, y, kind, index``."""
    color, shape = palette(names)
    pick = alt.selection_point(name="pick", fields=["kind", "index"], on="click")
    kinds = alt.Legend(orient="top", title=None, symbolSize=130, labelLimit=300)
    return (
        alt.Chart(table(rows))
        .mark_point(filled=True, size=55)
        .encode(
            x=alt.X("x:Q", title=titles[0], axis=alt.Axis(grid=False, tickCount=5)),
            y=alt.Y("y:Q", title=titles[1], axis=alt.Axis(grid=False, tickCount=5)),
            color=alt.Color("kind:N", scale=color, legend=kinds),
            shape=alt.Shape("kind:N", scale=shape, legend=kinds),
            opacity=alt.condition(pick, alt.value(0.75), alt.value(0.12)),
            tooltip=[alt.Tooltip("kind:N", title=" "), alt.Tooltip("index:Q", title=say("samples.index"))],
        )
        .add_params(pick)
        .properties(height=520)
    )


def show(chart: Chart, rows: Rows, name: str, alternative: str, **options: Any) -> Any:
    """Show a chart with a text description, and offer its data and picture for download."""
    quiet = TEXT[dark()]["quiet"]  # the default caption color has too little contrast
    words: dict[str, Any] = {"labelColor": quiet, "titleColor": quiet}
    styled = chart.configure_axis(**words).configure_legend(labelColor=quiet)
    ground, grid = ("#10141C", "#2E3644") if dark() else ("white", "#D9DEE7")
    alone = styled.configure_axis(**words, gridColor=grid).properties(background=ground)
    found = st.altair_chart(styled, theme="streamlit", alt=alternative, **options)
    with st.popover(say("common.download"), icon=":material/download:", type="tertiary"):
        for suffix, mime in (("csv", "text/csv"), ("svg", "image/svg+xml"), ("png", "image/png")):
            st.download_button(
                suffix.upper(),
                partial(_file, alone, rows, suffix),
                f"{name}.{suffix}",
                mime,
                key=f"{name}.{suffix}",
                on_click="ignore",
                width="stretch",
            )
    return found


def _file(chart: Chart, rows: Rows, suffix: str) -> bytes:
    if suffix == "csv":
        return as_csv(rows).encode()
    made = chart.properties(width=760).configure_view(stroke=None)
    content = io.BytesIO() if suffix == "png" else io.StringIO()
    made.save(content, format=suffix, **({"scale_factor": 2} if suffix == "png" else {}))
    value = content.getvalue()
    return value if isinstance(value, bytes) else value.encode()
