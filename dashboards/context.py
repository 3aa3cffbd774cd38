"""The store, opened once per server, and the data that every page needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from pydantic import ValidationError
from sqlalchemy.orm import Session

from evalsvc.api.server.token_store import Bearer
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.dashboards import access
from evalsvc.dashboards.i18n import say
from evalsvc.inputs.suites import Suite
from evalsvc.metrics.registry import Quantity
from evalsvc.store import audit, dashboard_queries, queries
from evalsvc.store.artifacts import Artifacts, open_artifacts
from evalsvc.store.audit import Actor
from evalsvc.store.dashboard_queries import Measured
from evalsvc.store.session import Database
from evalsvc.store.tables import ActorKind, Scope


@st.cache_resource(show_spinner=False)
def _database(url: str) -> Database:
    return Database(url)


def require_access() -> None:
    """Admit users who may read; stop the page for all others."""
    access.require_login(_database(Settings().database))


def has_scope(scope: Scope) -> bool:
    """Whether this session has a scope."""
    return scope in current_user().scopes


def current_user() -> Bearer:
    """The user of this session."""
    return access.bearer(_database(Settings().database))


def store() -> Database:
    """The database, for functions that open their own transactions."""
    return _for(Scope.READ)


def writable_store() -> Database:
    """The database for users who may change something; changes are recorded with their name.

    Raises:
        InputError: this session lacks the scope.
    """
    found, session, address = _for(Scope.SUBMIT), current_user(), st.context.ip_address
    told = address if isinstance(address, str) else ""  # local sessions have no client address
    audit.act_as(Actor(ActorKind.PAGE, session.name, session.id or None, told))
    return found


def _for(scope: Scope) -> Database:
    if not has_scope(scope):
        raise InputError(say("common.needs_scope", scope=scope))
    return _database(Settings().database)


def artifacts() -> Artifacts:
    """The configured artifact store. Keys come from database rows, never from a URL."""
    return open_artifacts(Settings())


@contextmanager
def read_transaction() -> Iterator[Session]:
    """A consistent read transaction. It neither waits for workers nor blocks them, and never sees a
    partial evaluation.
    """
    with _for(Scope.READ).read() as session:
        yield session


def suite() -> str:
    """The suite selected in the sidebar. Without any scores, the page explains how to start and stops."""
    chosen: str | None = st.session_state.get("suite")
    if chosen is None:
        st.info(say("common.empty"), icon=":material/rocket_launch:")
        st.code(
            "evalsvc demo\nevalsvc score 'runs/my-model/step_*.pt' --suite faces.yaml --generator my-gan",
            language="bash",
            wrap_lines=True,
        )
        st.caption(say("common.empty_next"))
        st.stop()
    return chosen


def metrics(session: Session, of: str) -> dict[str, Measured]:
    """The metrics that a suite has measured, by names that distinguish protocols of one label; never empty."""
    from evalsvc.analysis.leaderboard import columns_of

    found = dashboard_queries.measured(session, of)
    titles = {(column.label, column.protocol): column.title for column in columns_of(found)}
    return {titles[each.label, each.protocol]: each for each in found}


@st.cache_data(max_entries=32, show_spinner=False)
def aggregates(store: str, suite: str) -> dict[str, Quantity]:
    """The quantities of the scores that aggregate scorers, by label, cached because a suite never changes."""
    with read_transaction() as session:
        body = queries.suite_body(session, suite) or {}
    if not body.get("scorers"):
        return {}
    try:
        measured = Suite.model_validate(body).measured
    except ValidationError:  # a metric of a plug-in that is not installed here
        return {}
    return {label: quantity for label, (use, quantity) in measured.items() if use.of}


def suites() -> list[str]:
    """Every suite with scores, the most recently used first."""
    with read_transaction() as session:
        return queries.suites(session)
