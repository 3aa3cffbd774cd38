"""Page "Scorecard": the composite index with its parts, and a one-page report for printing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from evalsvc.analysis.composite_index import CompositeScore, overall
from evalsvc.dashboards import charts, context, pictures, widgets
from evalsvc.dashboards.formatting import card, file_name, grid, heading, html, interval, number, safe, with_error
from evalsvc.dashboards.i18n import metric_name, say
from evalsvc.dashboards.provenance import provenance
from evalsvc.dashboards.report import report
from evalsvc.gates.reports.text import stored, title
from evalsvc.inputs.suite_entries import IndexPart
from evalsvc.store import dashboard_queries, queries
from evalsvc.store.dashboard_queries import Filter, Point
from evalsvc.store.tables import Evaluation

DRAWN = 12


def page() -> None:
    """Render the page."""
    heading(say("scorecard.title"), say("scorecard.note"))
    suite = context.suite()
    point = widgets.one_checkpoint(suite)
    with context.read_transaction() as session:
        scores = queries.scores(session, evaluation=point.evaluation_id)
        body = queries.suite_body(session, suite) or {}
        run = session.get_one(Evaluation, point.evaluation_id)
        sliced = dashboard_queries.sliced(session, point.evaluation_id)
        gates = queries.gates(session, suite=suite, checkpoint=point.checkpoint_id)
        gallery = pictures.gallery(dashboard_queries.artifacts(session, [run.id], "gallery").get(run.id))
    defined = {label: IndexPart.model_validate(part) for label, part in body.get("index", {}).items()}
    index = overall(defined, {row.label: row for row in scores})
    if index is None:
        st.info(say("scorecard.missing" if defined else "scorecard.undefined"), icon=":material/calculate:")
        st.code(
            "index:\n  frechet_distance: {weight: 2, worst: 120, best: 4}\n  recall: {worst: 0, best: 1}",
            language="yaml",
            wrap_lines=True,
        )
    else:
        left, right = st.columns([1, 2], gap="medium")
        with left:
            ends = interval(*index.interval) if index.interval else "–"
            card(
                say("scorecard.index"),
                f"{index.value:.1f} <small>/ 100</small>",
                f"{say('scorecard.at_least')} {ends}",
                html(point.name),
            )
        with right:
            _parts(index, {row.label: row for row in scores}, defined)
        _other_models(suite, defined)
    _slices(point, sliced)
    verdicts = [(gate.id, title(stored(gate)), gate.verdict["reason"]) for gate in gates[:3]]
    made = report(
        point.name,
        suite,
        scores,
        index,
        verdicts,
        {"date": f"{point.created_at:%Y-%m-%d %H:%M} UTC", **provenance(run)},
        gallery,
    )
    st.download_button(
        say("scorecard.report"),
        made,
        file_name(point.name, ".html"),
        "text/html",
        icon=":material/print:",
        on_click="ignore",
        type="primary",
    )
    with st.expander(say("scorecard.preview"), icon=":material/visibility:"):
        st.iframe(made, height=900)


def _parts(index: CompositeScore, scores: Mapping[str, queries.ScoreRow], defined: Mapping[str, IndexPart]) -> None:
    grid(
        [
            {
                say("common.metric"): metric_name(part.label),
                say("common.value"): with_error(scores[part.label].value, scores[part.label].stderr),
                say("common.of_reference"): number(scores[part.label].stderr_reference, 2),
                say("scorecard.points"): part.points,
                say("scorecard.weight"): f"{part.share:.0%}",
                say("scorecard.scale"): f"{number(defined[part.label].worst)} → {number(defined[part.label].best)}",
            }
            for part in index.parts
        ],
        alt=say("scorecard.index"),
        column_config={
            say("scorecard.points"): st.column_config.ProgressColumn(min_value=0, max_value=100, format="%.1f")
        },
    )
    st.caption(say("scorecard.how"))


def _slices(point: Point, labels: Sequence[str]) -> None:
    """Links to the slices of the scores that have some."""
    links = st.container(horizontal=True)
    for label in labels:
        links.page_link(
            "views/items.py",
            label=say("scorecard.slices", metric=safe(metric_name(label))),
            icon=":material/pie_chart:",
            query_params={"checkpoint": point.name, "view": "slices", "score": label},
        )


def _other_models(suite: str, defined: Mapping[str, IndexPart]) -> None:
    """The index of every model's last checkpoint, with intervals."""
    with context.read_transaction() as session:
        protocols = {each.label: each.protocol for each in dashboard_queries.measured(session, suite)}
        first = next(iter(defined))
        latest = dashboard_queries.points(session, Filter(suite), first, protocols[first], "latest")
        cells = dashboard_queries.cells(session, [point.evaluation_id for point in latest], list(defined))
    found = [
        (point, overall(defined, {label: cell for (label, _), cell in cells[point.evaluation_id].items()}))
        for point in latest
    ]
    rows = chart_rows(found)
    if len(rows) > 1:
        st.header(say("scorecard.models"), anchor=False)
        charts.show(charts.forest(rows, say("scorecard.axis")), rows, "index", say("scorecard.models"))


def chart_rows(found: Sequence[tuple[Point, CompositeScore | None]]) -> list[dict[str, object]]:
    """Rows of the chart, best first."""
    there = sorted(((point, index) for point, index in found if index is not None), key=lambda pair: -pair[1].value)
    return [
        {
            "name": point.name,
            "value": index.value,
            "low": (index.interval or (index.value,))[0],
            "high": (index.interval or (index.value,))[-1],
            "group": point.name,
        }
        for point, index in there[:DRAWN]
    ]


page()
