"""Page "Rate": blind comparison of two samples in random order, ratings, and the agreement of metrics with them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import streamlit as st

from evalsvc.analysis import human_ratings, people_and_judges
from evalsvc.analysis.human_ratings import Pair, Standing
from evalsvc.core.errors import InputError
from evalsvc.dashboards import charts, context, pictures, widgets
from evalsvc.dashboards.formatting import grid, heading, interval, number, safe
from evalsvc.dashboards.i18n import metric_name, say
from evalsvc.dashboards.pictures import Gallery
from evalsvc.store import dashboard_queries
from evalsvc.store.dashboard_queries import Filter, Point
from evalsvc.store.tables import Scope

MOST = 12


def page() -> None:
    """Render the page."""
    heading(say("rate.title"), say("rate.note"))
    suite = context.suite()
    chosen = {point.evaluation_id: point for point in widgets.many_checkpoints(suite, say("rate.choose"), MOST)}
    with context.read_transaction() as session:
        keys = dashboard_queries.artifacts(session, list(chosen), "gallery")
    galleries = {evaluation: pictures.gallery(keys.get(evaluation)) for evaluation in chosen}
    _pair(suite, galleries)
    _table(suite, chosen)


def _pair(suite: str, galleries: Mapping[int, Gallery]) -> None:
    pair: Pair | None = st.session_state.get("pair.shown")
    if pair is None or not {pair.left, pair.right} <= set(galleries):
        try:
            with context.read_transaction() as session:
                held = {evaluation: gallery.indices for evaluation, gallery in galleries.items()}
                pair = human_ratings.draw(session, suite, held, random.Random(), _rater())
        except InputError as error:
            st.info(safe(error, 300), icon=":material/hide_image:")
            return
        st.session_state["pair.shown"] = pair
    sides = st.columns(2, gap="large", border=True)
    for side, place, evaluation in zip(sides, (1, 2), (pair.left, pair.right), strict=True):
        with side:
            gallery = galleries[evaluation]
            pictures.show_one(gallery, gallery.places[pair.sample], f"{say('samples.index')} {place}", 320)
    buttons = st.columns(3)
    allowed = context.has_scope(Scope.SUBMIT)
    for column, outcome, key in zip(buttons, ("left", "tie", "right"), ("1", "0", "2"), strict=True):
        column.button(
            say(f"rate.{outcome}"),
            key=f"rate.{outcome}",
            shortcut=key,
            width="stretch",
            disabled=not allowed,
            type="primary" if outcome != "tie" else "secondary",
            on_click=_record_rating,
            args=(suite, pair, outcome),
        )
    st.text_input(say("rate.rater"), key="rater", placeholder=context.current_user().name, help=say("rate.rater_help"))
    st.caption(say("rate.keys") if allowed else say("common.needs_scope", scope=Scope.SUBMIT))


def _record_rating(suite: str, pair: Pair, outcome: human_ratings.Outcome) -> None:
    """Record a rating once, even if a key is pressed repeatedly; keys for the previous pair are ignored."""
    if st.session_state.get("pair.shown") == pair and context.has_scope(Scope.SUBMIT):
        del st.session_state["pair.shown"]
        human_ratings.rate(context.writable_store(), suite, pair, outcome, _rater())


def _rater() -> str:
    """The name that a rater gave, or that of the user."""
    return str(st.session_state.get("rater") or "").strip() or context.current_user().name


def _table(suite: str, chosen: Mapping[int, Point]) -> None:
    st.header(say("rate.table"), anchor=False)
    names = {point.checkpoint_id: point.name for point in chosen.values()}
    with context.read_transaction() as session:
        runs = dashboard_queries.runs_of(session, suite, list(names))
        found = human_ratings.standings(session, suite, runs)
    if not found:
        st.caption(say("rate.nothing"))
        return
    rated = [each for each in found if each.rating is not None]
    if rated:
        rows = [
            {
                "name": names[e.checkpoint],
                "value": e.rating,
                "low": e.ci_low,
                "high": e.ci_high,
                "group": names[e.checkpoint],
            }
            for e in rated
        ]
        charts.show(charts.forest(rows, say("rate.rating")), rows, "ratings", say("rate.table"))
    grid(
        [
            {
                say("leaderboard.rank"): each.rank,
                say("common.checkpoint"): names[each.checkpoint],
                say("rate.rating"): number(each.rating),
                say("common.interval"): _ends(each.ci_low, each.ci_high),
                say("rate.games"): each.games,
                say("rate.standing"): say(f"rate.{each.standing}"),
            }
            for each in found
        ],
        alt=say("rate.table"),
    )
    st.caption(say("rate.method", method=found[0].method))
    _people_and_judges(suite, runs, names)
    _agreement(suite, found)


def _ends(low: float | None, high: float | None) -> str:
    """An interval, or the one end that it has."""
    if low is None or high is None:
        return f"≥ {number(low)}" if low is not None else f"≤ {number(high)}" if high is not None else "–"
    return interval(low, high)


def _people_and_judges(suite: str, runs: Mapping[int, int], names: Mapping[int, str]) -> None:
    with context.read_transaction() as session:
        alpha = people_and_judges.agreement(session, suite, runs)
        found = people_and_judges.together(session, suite, runs)
    if alpha is not None and alpha.alpha is not None:
        given = {"alpha": number(alpha.alpha, 2), "interval": interval(alpha.ci_low, alpha.ci_high)}
        st.caption(say("rate.alpha", **given, items=alpha.items, raters=alpha.raters))
    if not found:
        return
    st.header(say("rate.judges"), anchor=False)
    rows = []
    for each in found:
        rates = each.rates
        shown = [rates.people, rates.judge, rates.together] if rates else []
        cells = [f"{rate.value:.3f} ({interval(rate.ci_low, rate.ci_high)})" for rate in shown] or [
            "–",
            "–",
            each.reason,
        ]
        titles = (say("rate.people"), say("rate.judge"), say("rate.together"))
        rows.append(
            {
                say("rate.first"): names[each.first],
                say("rate.second"): names[each.second],
                say("rate.judge_name"): each.judge,
                **dict(zip(titles, cells, strict=True)),
                say("rate.agreed"): "–" if each.agreed is None else f"{each.agreed:.0%} ({each.both})",
                say("rate.kappa"): number(each.kappa, 2),
            }
        )
    grid(rows, alt=say("rate.judges"))
    st.caption(say("rate.judges_note"))


def _agreement(suite: str, found: list[Standing]) -> None:
    with context.read_transaction() as session:
        measured = {
            title: each for title, each in context.metrics(session, suite).items() if each.direction != "neutral"
        }
        rows: list[dict[str, Any]] = []
        for title, metric in measured.items():
            points = dashboard_queries.points(session, Filter(suite), metric.label, metric.protocol)
            value = human_ratings.agreement(
                found, {point.checkpoint_id: point.value for point in points}, metric.direction
            )
            if value is not None:
                rows.append({say("common.metric"): metric_name(title), say("rate.correlation"): round(value, 3)})
    if rows:
        st.header(say("rate.agreement"), anchor=False)
        grid(
            sorted(rows, key=lambda row: -row[say("rate.correlation")]),
            alt=say("rate.agreement"),
        )
        st.caption(say("rate.agreement_note"))


page()
