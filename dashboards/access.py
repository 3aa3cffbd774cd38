"""Who looks, and what they may do. On this machine alone everybody may all; to others the dashboards open by token."""

from __future__ import annotations

import os

import streamlit as st

from dashboards.language import say
from evalsvc import tokens
from evalsvc.api.listening import is_loopback
from evalsvc.store.session import Database
from evalsvc.store.tables import Scope
from evalsvc.tokens import Bearer

LOCAL = Bearer(0, "local", frozenset(Scope))
NOBODY = Bearer(0, "nobody", frozenset())


def needs_token() -> bool:
    """Whether others than the people at this machine may reach the server."""
    address = st.get_option("server.address")
    return os.environ.get("EVALSVC_DASHBOARD_TOKENS") == "required" or not address or not is_loopback(address)


def bearer(database: Database) -> Bearer:
    """Who this session is; asked anew for everything it does, so that a token that was revoked ends at once."""
    if not needs_token():
        return LOCAL
    secret = st.session_state.get("token", "")
    return (tokens.recognize(database, secret) if secret else None) or NOBODY


def gate(database: Database) -> None:
    """Ask for a token where one is needed, and show nothing before it is there."""
    if Scope.READ in bearer(database).scopes:
        if needs_token() and st.sidebar.button(say("common.sign_out"), icon=":material/logout:"):
            st.session_state.pop("token", None)
            st.rerun()
        return
    st.title("evalsvc", anchor=False)
    st.caption(say("common.token_note"))
    with st.form("token.form", width=480):
        secret = st.text_input(say("common.token"), type="password", autocomplete="off")
        if st.form_submit_button(say("common.sign_in"), type="primary"):
            if tokens.recognize(database, secret.strip()):
                st.session_state["token"] = secret.strip()
                st.rerun()
            st.error(say("common.token_wrong"), icon=":material/key_off:")
    st.stop()
