"""Page "Samples": samples of the same seeds side by side, across models or training steps."""

from __future__ import annotations

import streamlit as st

from evalsvc.dashboards import context, pictures, widgets
from evalsvc.dashboards.formatting import heading, html
from evalsvc.dashboards.i18n import say
from evalsvc.dashboards.pictures import Gallery
from evalsvc.dashboards.url_state import choose, choose_many, number, page_number, slide
from evalsvc.store import dashboard_queries
from evalsvc.store.dashboard_queries import Point

MODELS = 6
PER_ROW = 8


def page() -> None:
    """Render the page."""
    heading(say("samples.title"), say("samples.note"))
    suite = context.suite()
    with context.read_transaction() as session:
        names = [name for name, _ in dashboard_queries.models(session, suite)]
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    view = choose(
        "view",
        say("samples.view"),
        ["step", "training"],
        words=lambda v: say(f"samples.by_{v}"),
        style="segments",
        where=bar,
    )
    if view == "training":
        model = choose("model", say("common.model"), names, where=bar)
        rows = {
            f"{say('common.step')} {point.step:,}{point.mark}": point
            for point in widgets.checkpoints(suite, (model,)).values()
        }
    else:
        chosen = choose_many("models", say("common.models"), names, names[:MODELS], most=MODELS, where=bar)
        rows = _at_step(suite, chosen)
    if not rows:
        st.info(say("samples.choose"), icon=":material/touch_app:")
        return
    with context.read_transaction() as session:
        keys = dashboard_queries.artifacts(session, [point.evaluation_id for point in rows.values()], "gallery")
        real = dashboard_queries.reference_of(session, [point.evaluation_id for point in rows.values()])
    found = pictures.aligned({n: pictures.gallery(keys.get(point.evaluation_id)) for n, point in rows.items()})
    most = max(len(gallery) for gallery in found.values())
    if not most:
        st.info(say("samples.none"), icon=":material/hide_image:")
        return
    start = page_number("page", -(-most // PER_ROW)) * PER_ROW
    if real:
        found[say("samples.real")] = pictures.gallery(f"reference/{real}/gallery.safetensors")
    _rows(found, start)
    _zoom(found, start, most)


def _at_step(suite: str, models: list[str]) -> dict[str, Point]:
    """Each model's last checkpoint up to the step of the slider."""
    points = widgets.checkpoints(suite, tuple(models)) if models else {}
    steps = sorted({str(point.step) for point in points.values()}, key=int)
    if len(steps) < 2:
        return points
    step = slide("step", say("samples.up_to"), steps, words=lambda s: f"{int(s):,}")
    last: dict[str, int] = {}
    for point in points.values():
        if point.step <= int(step):
            last[point.line] = max(point.step, last.get(point.line, 0))
    return {name: point for name, point in points.items() if last.get(point.line) == point.step}


def _rows(found: dict[str, Gallery], start: int) -> None:
    for name, gallery in found.items():
        left, right = st.columns([1, 6], vertical_alignment="center")
        left.html(f'<span class="ev-name">{html(name)}</span>')
        with right:
            if len(gallery) > start:
                pictures.show_row(gallery, start, PER_ROW, say("samples.of", name=name))
            else:
                st.caption(say("samples.none_here"))
    st.caption(say("samples.seeds", first=start, last=start + PER_ROW - 1))


def _zoom(found: dict[str, Gallery], start: int, most: int) -> None:
    with st.expander(say("samples.zoom"), "sample" in st.query_params, icon=":material/zoom_in:"):
        index = number("sample", say("samples.index"), most - 1, start)
        there = {name: gallery for name, gallery in found.items() if len(gallery) > index}
        for place, (name, gallery) in enumerate(there.items()):
            if place % 4 == 0:
                columns = st.columns(4)
            with columns[place % 4]:
                pictures.show_one(gallery, index, say("samples.of", name=name))
                st.html(f'<span class="ev-name">{html(name)}</span>')


page()
