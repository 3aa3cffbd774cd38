"""Page "Features": a map of generated and real samples; select a point to see the sample."""

from __future__ import annotations

import numpy as np
import streamlit as st

from evalsvc.analysis.feature_map import FeatureMap, Method, feature_map, feature_names, methods
from evalsvc.core.errors import StorageError
from evalsvc.core.settings import Settings
from evalsvc.dashboards import charts, context, pictures, widgets
from evalsvc.dashboards.formatting import heading, safe
from evalsvc.dashboards.i18n import say
from evalsvc.dashboards.url_state import choose
from evalsvc.store import dashboard_queries
from evalsvc.store.tables import Evaluation


def page() -> None:
    """Render the page."""
    heading(say("features.title"), say("features.note"))
    suite = context.suite()
    point = widgets.one_checkpoint(suite)
    with context.read_transaction() as session:
        run = session.get_one(Evaluation, point.evaluation_id)
        small = dashboard_queries.artifacts(session, [run.id], "thumbnails").get(run.id)
    names = feature_names(run.spec) if run.spec.get("suite") else []
    if not names:
        st.info(say("features.none"), icon=":material/scatter_plot:")
        return
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    features = choose(
        "features", say("features.features"), names, run.spec["suite"].get("neighbours") or names[0], where=bar
    )
    method = choose(
        "method",
        say("features.method"),
        methods(),
        words=lambda m: say(f"features.{m}"),
        style="segments",
        where=bar,
    )
    try:
        backend = run.provenance.get("backends", {}).get(features.partition("/")[0], "")
        found = _map(Settings().database, run.id, features, method, backend)
    except StorageError as error:
        st.warning(safe(error, 500), icon=":material/warning:")
        return
    kinds = [say(f"features.{kind}") for kind in ("real", "inside", "outside")]
    rows = [
        {"x": float(x), "y": float(y), "kind": kinds[0], "index": int(i)}
        for i, (x, y) in zip(found.real_indices, found.real, strict=True)
    ]
    rows += [
        {"x": float(x), "y": float(y), "kind": kinds[1 if inside else 2], "index": i}
        for i, ((x, y), inside) in enumerate(zip(found.generated, found.inside, strict=True))
    ]
    titles = [say("features.axis", number=n) for n in (1, 2)]
    left, right = st.columns([3, 1], gap="large")
    with left:
        event = charts.show(
            charts.feature_map(rows, kinds, titles),
            rows,
            "features",
            say("features.drawn", name=point.name),
            on_select="rerun",
            key=f"map.{run.id}.{features}.{method}",
        )
    with right:
        st.metric(say("features.inside"), f"{float(np.mean(found.inside)):.1%}", border=True)
        if found.explained is not None:
            st.metric(say("features.explained"), f"{found.explained:.1%}", border=True)
        real = f"reference/{run.spec['reference']['train']}/thumbnails.safetensors"
        _picked(event, kinds, pictures.gallery(small), pictures.gallery(real))
    st.caption(say("features.read"))


@st.cache_data(max_entries=32, show_spinner=False)
def _map(store: str, evaluation: int, features: str, method: Method, backend: str) -> FeatureMap:
    """Compute a map, cached by evaluation, because the artifacts of an evaluation never change."""
    with context.read_transaction() as session:
        spec = session.get_one(Evaluation, evaluation).spec
    return feature_map(spec, backend, context.artifacts(), features, method)


def _picked(event: object, kinds: list[str], generated: pictures.Gallery, real: pictures.Gallery) -> None:
    chosen = (event or {}).get("selection", {}).get("pick", [])  # type: ignore[attr-defined]
    if not chosen:
        st.caption(say("features.click"))
        return
    kind, index = chosen[0]["kind"], int(chosen[0]["index"])
    gallery = real if kind == kinds[0] else generated
    place = real.places.get(index) if kind == kinds[0] else index
    st.header(f"{kind} · {index}", anchor=False)
    if place is not None and place < len(gallery):
        pictures.show_one(gallery, place, say("samples.of", name=f"{kind} {index}"))
    else:
        st.caption(say("features.no_picture"))


page()
