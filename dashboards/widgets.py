"""Choosing checkpoints: the same words, keys and errors on every page."""

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
    """Every checkpoint with scores under a suite, by its name; which score the points carry does not matter."""
    with context.reading() as session:
        return {point.name: point for point in dashboard_queries.scored(session, Filter(suite, models))}


def named(asked: str) -> Checkpoint:
    """What a link names; where it names nothing, or several, the page says so and ends."""
    try:
        with context.reading() as session:
            return names.find(session, asked)
    except InputError as error:
        st.error(say("common.no_checkpoint"), icon=":material/search_off:")
        st.code(str(error), language=None, wrap_lines=True)
        st.session_state.pop("checkpoint", None)
        st.stop()


def one_checkpoint(suite: str) -> Point:
    """A checkpoint by model and step; a link may name it whole, as ``checkpoint=model@step``."""
    with context.reading() as session:
        models = [name for name, _ in dashboard_queries.models(session, suite)]
    asked = st.query_params.get("checkpoint")
    if asked and asked != st.session_state.get("checkpoint.written"):
        row = named(asked)
        with context.reading() as session:
            title = names.title_of(session, row)
        st.query_params["model"], st.query_params["step"] = row.model.name, title.removeprefix(f"{row.model.name}@")
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    model = choose("model", say("common.model"), models, where=bar)
    found = {name.removeprefix(f"{model}@"): point for name, point in checkpoints(suite, (model,)).items()}
    step = choose("step", say("common.step"), list(found), list(found)[-1], where=bar)
    st.session_state["checkpoint.written"] = st.query_params["checkpoint"] = f"{model}@{step}"
    return found[step]


def many_checkpoints(suite: str, label: str, most: int) -> list[Point]:
    """Some checkpoints in the order in which they were chosen; at first the last ones of the first models."""
    found = checkpoints(suite)
    asked = st.query_params.get_all("checkpoint")
    if not set(asked) <= set(found):  # an alias, or a name from before something else had the same label
        st.query_params["checkpoint"] = [name if name in found else _now(name) for name in asked]
    last = {point.model: name for name, point in found.items()}
    chosen = choose_many("checkpoint", label, list(found), list(last.values())[:3], most=most)
    return [found[name] for name in chosen]


def _now(asked: str) -> str:
    """The present name of what a link names; a name that nothing has stays as it is."""
    try:
        with context.reading() as session:
            return names.title_of(session, names.find(session, asked))
    except AmbiguousError:
        named(asked)
        raise
    except InputError:
        return asked
