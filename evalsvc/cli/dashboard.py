"""``dashboard``: the pages, served by Streamlit."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from evalsvc.api.server import token_store
from evalsvc.api.server.bind_address import hosts_for, is_loopback
from evalsvc.core.environment import variable
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings, separated
from evalsvc.store.session import Database


def dashboard(
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine only with tokens.")
    ] = "127.0.0.1",
    require_token: Annotated[
        bool, typer.Option("--require-token", help="Ask for a token on this machine too, as behind a proxy.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8501,
) -> None:
    """Serve the dashboards: leaderboard, trends, samples and the rest, in a browser."""
    package = find_spec("evalsvc.dashboards")
    if package is None or find_spec("streamlit") is None:
        raise InputError("the dashboards need Streamlit: pip install 'evalsvc[dashboard]'")
    # The API's setting, read here since its package takes another extra. Pages that ask nobody have no other names.
    named = separated(variable("EVALSVC_ALLOWED_HOSTS") or "")
    hosts = hosts_for(
        host, named if require_token or not is_loopback(host) else (), token_store.usable(Database(Settings().database))
    )
    if require_token:
        os.environ["EVALSVC_DASHBOARD_TOKENS"] = "required"
    # -P: not a folder of that name where we stand
    os.execv(sys.executable, [sys.executable, "-P", "-m", "evalsvc.dashboards", host, str(port), *hosts])
