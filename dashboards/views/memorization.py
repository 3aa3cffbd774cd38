"""Page "Memorization": distances to the training set compared with those of held-out samples, and nearest neighbors."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from evalsvc.dashboards import charts, context, pictures, widgets
from evalsvc.dashboards.formatting import card, heading, html, interval, number, with_error
from evalsvc.dashboards.i18n import metric_name, say
from evalsvc.dashboards.url_state import page_number
from evalsvc.metrics.skewness import Z95, combined, widths
from evalsvc.store import dashboard_queries
from evalsvc.store.dashboard_queries import Point
from evalsvc.store.tables import Score

BINS = 40
PER_PAGE = 8


def page() -> None:
    """Render the page."""
    heading(say("memorization.title"), say("memorization.note"))
    suite = context.suite()
    point = widgets.one_checkpoint(suite)
    with context.read_transaction() as session:
        authenticity = dashboard_queries.score(session, point.evaluation_id, "authenticity")
        copying = dashboard_queries.score(session, point.evaluation_id, "ct_score")
        keys = {
            kind: dashboard_queries.artifacts(session, [point.evaluation_id], kind).get(point.evaluation_id)
            for kind in ("neighbours", "gallery")
        }
    left, right = st.columns(2, gap="medium")
    with left:
        _authenticity(authenticity)
    with right:
        _copying(copying)
    found = pictures.read(keys["neighbours"])
    if not found:
        st.info(say("memorization.none"), icon=":material/search_off:")
        return
    _distances(found, point)
    _neighbors(found, pictures.gallery(keys["gallery"]))


def _authenticity(score: Score | None) -> None:
    name = metric_name("authenticity")
    if score is None:
        card(name, "–", note=say("memorization.not_measured"))
        return
    control, stderr = score.details.get("heldout"), score.details.get("heldout_stderr")
    note = say("memorization.authenticity")
    if control is not None:
        error, skewness = combined([(1.0, score.stderr or 0.0, score.skewness), (-1.0, stderr or 0.0, 0.0)])
        gap, (_, up) = score.value - control, widths(error, skewness, Z95)
        verdict = "sure_copy" if gap + up < 0 else "no_copy"
        note = f"{say('memorization.control', value=with_error(control, stderr))} {say(f'memorization.{verdict}')}"
    card(
        f"{name} (AuthPct)",
        with_error(score.value, score.stderr),
        f"{say('common.interval')} {interval(score.ci_low, score.ci_high)}",
        note,
    )


def _copying(score: Score | None) -> None:
    name = metric_name("ct_score")
    if score is None:
        card(name, "–", note=say("memorization.not_measured"))
        return
    sure = (
        "ct_copy"
        if score.ci_high is not None and score.ci_high < 0
        else "ct_far"
        if score.ci_low is not None and score.ci_low > 0
        else "ct_even"
    )
    card(
        name,
        with_error(score.value, score.stderr),
        f"{say('common.interval')} {interval(score.ci_low, score.ci_high)}",
        say(f"memorization.{sure}"),
    )


def _distances(found: dict[str, np.ndarray], point: Point) -> None:
    sets = {point.name: found["distances"][:, 0]}
    if "heldout" in found:
        sets[say("memorization.heldout")] = found["heldout"]
    rows = histogram(sets)
    st.header(say("memorization.distances"), anchor=False)
    charts.show(
        charts.histogram(rows, say("memorization.distance"), list(sets)),
        rows,
        "distances",
        say("memorization.distances"),
    )
    st.caption(say("memorization.distances_note") if "heldout" in found else say("memorization.no_control"))


def histogram(sets: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Proportions of each set in common bins that cover all sets."""
    every = np.concatenate(list(sets.values()))
    edges = np.linspace(0, float(every.max()) or 1.0, BINS + 1)
    rows = []
    for name, values in sets.items():
        counts, _ = np.histogram(values, edges)
        rows += [
            {"name": name, "low": float(low), "high": float(high), "share": float(count / len(values))}
            for low, high, count in zip(edges, edges[1:], counts, strict=False)
        ]
    return rows


def _neighbors(found: dict[str, np.ndarray], gallery: pictures.Gallery) -> None:
    kept = found.get("pictures")
    if kept is None or not len(gallery):
        st.caption(say("memorization.no_pictures"))
        return
    near = found["distances"].shape[1]
    count = min(len(gallery), len(kept) // near)
    order = np.argsort(found["distances"][:count, 0])
    st.header(say("memorization.nearest"), anchor=False)
    st.caption(say("memorization.nearest_note"))
    number_of = page_number("page", -(-count // PER_PAGE))
    for start in (number_of * PER_PAGE, number_of * PER_PAGE + PER_PAGE // 2):
        for column, index in zip(
            st.columns(PER_PAGE // 2, border=True), order[start : start + PER_PAGE // 2], strict=False
        ):
            with column:
                one, two = st.columns([1, near], gap="small")
                with one:
                    pictures.show_one(gallery, int(index), say("samples.of", name=str(index)))
                two.image(
                    pictures.strip(kept[index * near : (index + 1) * near], near),
                    width="stretch",
                    alt=say("memorization.nearest"),
                )
                st.html(
                    f"<small>#{gallery.indices[index]} · {html(number(float(found['distances'][index, 0]), 3))}</small>"
                )


page()
