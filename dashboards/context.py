"""The store, opened once a server; and what every page asks first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from sqlalchemy.orm import Session

from evalsvc.api.server.token_store import Bearer
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.dashboards import access
from evalsvc.dashboards.i18n import say
from evalsvc.store import audit, dashboard_queries, queries
from evalsvc.store.artifacts import Artifacts, open_artifacts
from evalsvc.store.audit import Actor
from evalsvc.store.dashboard_queries import Measured
from evalsvc.store.session import Database
from evalsvc.store.tables import ActorKind, Scope


@st.cache_resource(show_spinner=False)
def _database(url: str) -> Database:
    return Database(url)


def gate() -> None:
    """Let in who may read, and nobody else."""
    access.require_login(_database(Settings().database))


def may(scope: Scope) -> bool:
    """Whether this session has a scope."""
    return scope in who().scopes


def who() -> Bearer:
    """Whose session this is."""
    return access.bearer(_database(Settings().database))


def store() -> Database:
    """The database, for what reads it by itself."""
    return _for(Scope.READ)


def changing() -> Database:
    """The database, for those who may change something; what they change is recorded with their name.

    Raises:
        InputError: this session may not.
    """
    found, session, address = _for(Scope.SUBMIT), who(), st.context.ip_address
    told = address if isinstance(address, str) else ""  # there is none on this machine itself
    audit.act_as(Actor(ActorKind.PAGE, session.name, session.id or None, told))
    return found


def _for(scope: Scope) -> Database:
    if not may(scope):
        raise InputError(say("common.needs_scope", scope=scope))
    return _database(Settings().database)


def artifacts() -> Artifacts:
    """The files in force. Keys come from rows, never from an address."""
    return open_artifacts(Settings())


@contextmanager
def reading() -> Iterator[Session]:
    """One consistent view: it neither waits for workers nor holds them up, and never sees half an evaluation."""
    with _for(Scope.READ).read() as session:
        yield session


def suite() -> str:
    """The suite that the sidebar has in hand; where nothing was ever scored, the page says how to begin and ends."""
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
    """What a suite has measured, by a name that tells protocols of one label apart; never empty."""
    from evalsvc.analysis.leaderboard import columns_of

    found = dashboard_queries.measured(session, of)
    titles = {(column.label, column.protocol): column.title for column in columns_of(found)}
    return {titles[each.label, each.protocol]: each for each in found}


def suites() -> list[str]:
    """Every suite with scores, the one used last first."""
    with reading() as session:
        return queries.suites(session)
