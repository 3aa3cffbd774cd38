"""Authentication and scopes of a session. Local users have all scopes; remote users need a token or a login."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from evalsvc.api.server import token_store
from evalsvc.api.server.bind_address import is_loopback
from evalsvc.api.server.token_store import Bearer
from evalsvc.core.environment import variable
from evalsvc.dashboards.formatting import safe
from evalsvc.dashboards.i18n import say
from evalsvc.dashboards.visits import COOKIE, VISITS
from evalsvc.store.session import Database
from evalsvc.store.tables import Scope

LOCAL = Bearer(0, "local", frozenset(Scope))
NOBODY = Bearer(0, "nobody", frozenset())


def needs_token() -> bool:
    """Whether clients on other machines can reach the server."""
    return needs_token_at(st.get_option("server.address"))


def needs_token_at(address: str | None) -> bool:
    """Whether clients on other machines can reach a server at this address, directly or through a proxy."""
    return variable("EVALSVC_DASHBOARD_TOKENS") == "required" or not address or not is_loopback(address)


def bearer(database: Database) -> Bearer:
    """The current user of this session, checked for every action, so that a revoked token ends its sessions at once."""
    if not needs_token():
        return LOCAL
    secret = st.session_state.get("token", "")
    found = (token_store.recognize(database, secret) if secret else None) or logged_in_user(st.user, st.secrets)
    if Scope.READ in found.scopes:
        VISITS.admit(st.context.cookies.get(COOKIE, ""))
    return found


def logged_in_user(user: Mapping[str, Any], secrets: Mapping[str, Any]) -> Bearer:
    """The user who logged in at the identity provider, with the scopes that ``[scopes]`` in the secrets grants.

    An entry is the provider's ``sub`` of a person, an e-mail address, or ``@`` followed by a domain. Unverified
    addresses are ignored, because anybody can claim them.
    """
    if not user.get("is_logged_in"):
        return NOBODY
    granted = {name.lower() if "@" in name else name: scope for name, scope in secrets.get("scopes", {}).items()}
    names = [str(user.get("sub", ""))]
    if user.get("email_verified") is True:
        address = str(user.get("email", "")).lower()
        names = [address, *names, f"@{address.rpartition('@')[2]}"]
    scope = next((granted[name] for name in names if name in granted), "")
    return Bearer(0, names[0], token_store.implied([str(scope)]))


def require_login(database: Database) -> None:
    """Require authentication if needed, and show nothing before it succeeds."""
    logged_in = st.user.get("is_logged_in")  # None if no provider is configured
    if Scope.READ in bearer(database).scopes:
        if needs_token() and st.sidebar.button(say("common.sign_out"), icon=":material/logout:"):
            _sign_out()
        return
    st.title("evalsvc", anchor=False)
    if logged_in:
        who = st.user.get("email") or st.user.get("sub")
        st.error(say("common.no_scope", name=safe(who)), icon=":material/block:")
        if st.button(say("common.sign_out"), icon=":material/logout:"):
            _sign_out()
    elif logged_in is False and st.button(say("common.log_in"), type="primary", icon=":material/login:"):
        st.login()
    st.caption(say("common.token_note"))
    with st.form("token.form", width=480):
        secret = st.text_input(say("common.token"), type="password", autocomplete="off")
        if st.form_submit_button(say("common.sign_in"), type="primary"):
            if token_store.recognize(database, secret.strip()):
                st.session_state["token"] = secret.strip()
                st.rerun()
            st.error(say("common.token_wrong"), icon=":material/key_off:")
    st.stop()


def _sign_out() -> None:
    st.session_state.pop("token", None)
    VISITS.end(st.context.cookies.get(COOKIE, ""))
    if st.user.get("is_logged_in"):
        st.logout()
    else:
        st.rerun()
