"""Page "Checkpoint": its scores, their provenance, and samples."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from evalsvc.core.errors import printable
from evalsvc.core.number_format import with_both_errors
from evalsvc.core.spreadsheets import as_csv
from evalsvc.dashboards import context, pictures, widgets
from evalsvc.dashboards.formatting import ARROWS, facts, grid, heading, html, interval, number
from evalsvc.dashboards.i18n import metric_name, say
from evalsvc.dashboards.provenance import provenance
from evalsvc.dashboards.url_state import choose
from evalsvc.gates.reports.text import stored, title
from evalsvc.store import dashboard_queries, names, queries
from evalsvc.store.tables import Checkpoint, Evaluation


def page() -> None:
    """Render the page."""
    heading(say("checkpoint.title"), say("checkpoint.note"))
    suite = context.suite()
    found = _checkpoint(suite)
    with context.read_transaction() as session:
        runs = queries.evaluations(session, found.id)
        aliases = dashboard_queries.tags(session).get(found.id, [])
        gates = queries.gates(session, checkpoint=found.id)
        name = names.title_of(session, found)
    chips = "".join(f'<span class="ev-chip">{html(name)}</span>' for name in aliases)
    st.html(f'<p class="ev-big">{html(name)}</p><p class="ev-note">{chips}</p>')
    links = st.container(horizontal=True)
    for view, icon in (("scorecard", "assignment"), ("compare", "compare_arrows"), ("memorization", "content_copy")):
        _link(links, view, icon, {"checkpoint": name})
    _link(links, "trends", "trending_up", {"model": found.model.name})
    current = next(
        (run for run in runs if run.status == "succeeded" and f"{run.suite.name}@{run.suite.version}" == suite), None
    )
    for run in runs:
        if run.status == "failed":
            st.error(say("checkpoint.failed", suite=f"{run.suite.name}@{run.suite.version}"), icon=":material/error:")
            st.code(printable(run.error or ""), language=None, wrap_lines=True)
    if current is not None:
        _scores(current)
        _samples(current)
    for gate in gates[:5]:
        st.page_link(
            "views/gates.py",
            label=say("checkpoint.gate", number=gate.id, status=title(stored(gate))),
            icon=":material/gavel:",
            query_params={"gate": str(gate.id)},
        )
    left, right = st.columns(2, gap="large")
    with left:
        st.header(say("checkpoint.identity"), anchor=False)
        options = {f"option {key}": value for key, value in found.options.items()}
        facts(
            {
                "digest": found.digest,
                "path": found.path,
                "generator": f"{found.generator} {found.generator_version}".strip(),
                "configuration": found.configuration,
                say("common.family"): found.model.family,
                **options,
            }
        )
    with right:
        st.header(say("checkpoint.provenance"), anchor=False)
        facts(provenance(current) if current else {})


def _link(where: DeltaGenerator, view: str, icon: str, query: dict[str, str]) -> None:
    where.page_link(f"views/{view}.py", label=say(f"{view}.title"), icon=f":material/{icon}:", query_params=query)


def _checkpoint(suite: str) -> Checkpoint:
    asked = st.query_params.get("checkpoint") or st.session_state.get("checkpoint")
    if asked is None:
        with context.read_transaction() as session:
            models = [name for name, _ in dashboard_queries.models(session, suite)]
        model = choose("model", say("common.model"), models)
        with context.read_transaction() as session:
            entries = dashboard_queries.entries(session, suite, model)
        steps = {name.removeprefix(f"{model}@"): name for name in entries}
        asked = steps[choose("step", say("common.step"), list(steps), list(steps)[-1])]
    else:
        st.session_state["checkpoint"] = st.query_params["checkpoint"] = asked
    return widgets.named(asked)


def _scores(run: Evaluation) -> None:
    with context.read_transaction() as session:
        rows = queries.scores(session, evaluation=run.id)
    table = [
        {
            say("common.metric"): f"{metric_name(row.label)} {ARROWS[row.direction]}".strip(),
            say("common.value"): with_both_errors(row.value, row.stderr, None, row.target),
            say("common.interval"): interval(row.ci_low, row.ci_high),
            say("common.of_reference"): number(row.stderr_reference, 2) if row.reference_method else "–",
            say("checkpoint.unit"): row.unit,
            "n": row.n,
            say("checkpoint.method"): row.stderr_method,
            say("checkpoint.protocol"): row.protocol,
        }
        for row in rows
    ]
    grid(table, height=min(36 * len(table) + 40, 620), alt=say("checkpoint.scores"))
    st.download_button("CSV", as_csv(table), "scores.csv", "text/csv", icon=":material/download:", on_click="ignore")


def _samples(run: Evaluation) -> None:
    with context.read_transaction() as session:
        gallery = pictures.gallery(dashboard_queries.artifacts(session, [run.id], "gallery").get(run.id))
    if len(gallery):
        st.header(say("samples.title"), anchor=False)
        pictures.show_row(
            gallery, 0, 16 if gallery.pixels is not None and gallery.pixels.ndim == 4 else 6, say("samples.title")
        )


page()
