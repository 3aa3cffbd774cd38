"""Choosing checkpoints: the same words, keys and errors on every page."""

from __future__ import annotations

import streamlit as st

from dashboards import opened
from dashboards.controls import choose, choose_many
from dashboards.language import say
from evalsvc.store import overview
from evalsvc.store.overview import Filter, Point


def checkpoints(suite: str, models: tuple[str, ...] = ()) -> dict[str, Point]:
    """Every checkpoint with scores under a suite, by ``model@step``; which score the points carry does not matter."""
    with opened.reading() as session:
        first = next(iter(overview.measured(session, suite)))
        return {
            point.name: point for point in overview.points(session, Filter(suite, models), first.label, first.protocol)
        }


def one_checkpoint(suite: str) -> Point:
    """A checkpoint by model and step; a link may name it whole, as ``checkpoint=model@step``."""
    with opened.reading() as session:
        models = [name for name, _ in overview.models(session, suite)]
    asked = st.query_params.get("checkpoint")
    if asked and asked != st.session_state.get("checkpoint.written"):
        model, _, step = asked.rpartition("@")
        st.query_params["model"], st.query_params["step"] = model, step
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    model = choose("model", say("common.model"), models, where=bar)
    found = {str(point.step): point for point in checkpoints(suite, (model,)).values()}
    step = choose("step", say("common.step"), list(found), list(found)[-1], where=bar)
    st.session_state["checkpoint.written"] = st.query_params["checkpoint"] = f"{model}@{step}"
    return found[step]


def many_checkpoints(suite: str, label: str, most: int) -> list[Point]:
    """Some checkpoints in the order in which they were chosen; at first the last ones of the first models."""
    found = checkpoints(suite)
    last = {point.model: name for name, point in found.items()}
    chosen = choose_many("checkpoint", label, list(found), list(last.values())[:3], most=most)
    return [found[name] for name in chosen]
