"""The frame around every page: navigation, suite, language, and the timer that detects new results."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from evalsvc.core.settings import Settings
from evalsvc.dashboards import context
from evalsvc.dashboards.formatting import style
from evalsvc.dashboards.i18n import LANGUAGES, name_aggregates, preferred_language, say
from evalsvc.dashboards.url_state import choose
from evalsvc.store import dashboard_queries
from evalsvc.store.tables import Scope

VIEWS = Path(__file__).parent / "views"
PAGES = {
    "common.rank": {
        "leaderboard": "trophy",
        "trends": "trending_up",
        "compare": "compare_arrows",
        "tradeoffs": "balance",
    },
    "common.look": {
        "samples": "photo_library",
        "items": "quiz",
        "memorization": "content_copy",
        "features": "scatter_plot",
        "rate": "thumbs_up_down",
    },
    "common.decide": {"scorecard": "assignment", "gates": "gavel", "operations": "dns", "checkpoint": "deployed_code"},
}
URLS = {"memorization": "memorisation"}
"""URL paths that differ from the name of their page, because URLs are stable."""


def frame() -> None:
    """Show the page of the current URL."""
    st.set_page_config(page_title="evalsvc", page_icon=Path(__file__).parent / "icon.svg", layout="wide")
    st.html(style(st.context.theme.type == "dark"))
    st.logo(Path(__file__).parent / "logo.svg", size="large")
    st.session_state.setdefault("language", preferred_language())
    asked = st.query_params.get("lang")
    if asked in LANGUAGES and st.session_state.get("written", {}).get("lang") != [asked]:
        st.session_state["language"] = asked
    pages = {say(room): [_page(name, icon) for name, icon in names.items()] for room, names in PAGES.items()}
    # Navigation is registered before the login, so that the login leads to the page of the URL.
    page = st.navigation(pages, position="sidebar" if context.has_scope(Scope.READ) else "hidden")
    context.require_access()
    with st.sidebar:
        known = context.suites()
        st.session_state["suite"] = choose("suite", say("common.suite"), known) if known else None
        st.session_state["language"] = choose(
            "lang",
            "Language · 语言",
            list(LANGUAGES),
            st.session_state["language"],
            words=LANGUAGES.__getitem__,
            style="segments",
        )
    if known:
        name_aggregates(context.aggregates(Settings().database, context.suite()))
    watch_for_results()
    page.run()


def _page(name: str, icon: str) -> st.Page:
    return st.Page(
        VIEWS / f"{name}.py",
        title=say(f"{name}.title"),
        icon=f":material/{icon}:",
        url_path=URLS.get(name, name),
        default=name == "leaderboard",
        visibility="hidden" if name == "checkpoint" else "visible",
    )


@st.fragment(run_every=2)
def watch_for_results() -> None:
    """Check for new results every two seconds, and rerun the page if there are any."""
    with context.read_transaction() as session:
        now = dashboard_queries.revision(session)
    before = st.session_state.setdefault("revision", now)
    if now != before:
        st.session_state["revision"] = now
        st.rerun()


frame()
