"""Widgets to select checkpoints, with the same labels, keys and errors on every page."""

from __future__ import annotations

import streamlit as st

from evalsvc.core.errors import AmbiguousError, InputError
from evalsvc.dashboards import context
from evalsvc.dashboards.i18n import say
from evalsvc.dashboards.url_state import choose, choose_many
from evalsvc.store import dashboard_queries, names
from evalsvc.store.dashboard_queries import Filter, Point
from evalsvc.store.tables import Checkpoint


def checkpoints(suite: str, models: tuple[str, ...] = ()) -> dict[str, Point]:
    """Every checkpoint with scores under a suite, by name; it does not matter which score the points carry."""
    with context.read_transaction() as session:
        return {point.name: point for point in dashboard_queries.scored(session, Filter(suite, models))}


def named(asked: str) -> Checkpoint:
    """The checkpoint that a link names; if it is missing or ambiguous, the page reports that and stops."""
    try:
        with context.read_transaction() as session:
            return names.find(session, asked)
    except InputError as error:
        st.error(say("common.no_checkpoint"), icon=":material/search_off:")
        st.code(str(error), language=None, wrap_lines=True)
        st.session_state.pop("checkpoint", None)
        st.stop()


def one_checkpoint(suite: str) -> Point:
    """Select a checkpoint by model and step; a link may contain the full name, as in ``checkpoint=model@step``."""
    with context.read_transaction() as session:
        models = [name for name, _ in dashboard_queries.models(session, suite)]
    asked = st.query_params.get("checkpoint")
    if asked and asked != st.session_state.get("checkpoint.written"):
        row = named(asked)
        with context.read_transaction() as session:
            title = names.title_of(session, row)
        st.query_params["model"], st.query_params["step"] = row.model.name, title.removeprefix(f"{row.model.name}@")
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    model = choose("model", say("common.model"), models, where=bar)
    found = {name.removeprefix(f"{model}@"): point for name, point in checkpoints(suite, (model,)).items()}
    step = choose("step", say("common.step"), list(found), list(found)[-1], where=bar)
    st.session_state["checkpoint.written"] = st.query_params["checkpoint"] = f"{model}@{step}"
    return found[step]


def many_checkpoints(suite: str, label: str, most: int) -> list[Point]:
    """Select several checkpoints, kept in the order of selection; the default is the last of each of
    the first models.
    """
    found = checkpoints(suite)
    asked = st.query_params.get_all("checkpoint")
    if not set(asked) <= set(found):  # an alias, or a name from before another checkpoint got the same label
        st.query_params["checkpoint"] = [name if name in found else _current_name(name) for name in asked]
    last = {point.model: name for name, point in found.items()}
    chosen = choose_many("checkpoint", label, list(found), list(last.values())[:3], most=most)
    return [found[name] for name in chosen]


def _current_name(asked: str) -> str:
    """The current name of a checkpoint in a link; an unknown name is returned unchanged."""
    try:
        with context.read_transaction() as session:
            return names.title_of(session, names.find(session, asked))
    except AmbiguousError:
        named(asked)
        raise
    except InputError:
        return asked
