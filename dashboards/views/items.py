"""Page "Items": single samples with their prompts and targets, the worst first, and slices of scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from evalsvc.analysis.item_measures import measures_of
from evalsvc.dashboards import context, item_samples, item_slices, widgets
from evalsvc.dashboards.formatting import heading
from evalsvc.dashboards.i18n import say
from evalsvc.dashboards.url_state import choose
from evalsvc.store import queries

EXAMPLE = """items: {file: questions.jsonl, prompt: question, target: answer, tags: [topic]}
scorers: {exact: {use: exact-match}}
metrics:
  - {metric: mean, of: exact, by: topic}"""
NONE = "none"


def page() -> None:
    """Render the page."""
    heading(say("items.title"), say("items.note"))
    suite = context.suite()
    with context.read_transaction() as session:
        body: Mapping[str, Any] = queries.suite_body(session, suite) or {}
    measures = measures_of(body) if body.get("scorers") else {}
    sliced = any(use.get("by") for use in body.get("metrics", ()))
    if not measures and not sliced:
        st.info(say("items.no_scorers"), icon=":material/quiz:")
        st.code(EXAMPLE, language="yaml", wrap_lines=True)
        return
    point = widgets.one_checkpoint(suite)
    others = {name: other for name, other in widgets.checkpoints(suite).items() if name != point.name}
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    names = [NONE, *others]
    shown = {name: name for name in names} | {NONE: "–"}
    against = choose("against", say("items.against"), names, words=shown.__getitem__, where=bar)
    views = [*(["samples"] if measures else []), *(["slices"] if sliced else [])]
    view = views[0]
    if len(views) > 1:
        view = choose("view", say("items.view"), views, words=lambda v: say(f"items.{v}"), style="segments", where=bar)
    if view == "slices":
        item_slices.show(point, others.get(against), bar)
    else:
        item_samples.show(measures, point, others.get(against), bar)


page()
