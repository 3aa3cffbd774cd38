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
    host: Annotated[str, typer.Option(help="Address to listen on; other machines need tokens.")] = "127.0.0.1",
    require_token: Annotated[
        bool, typer.Option("--require-token", help="Require a token on this machine too, such as behind a proxy.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8501,
) -> None:
    """Serve the dashboards in a browser: leaderboard, trends, samples and more."""
    package = find_spec("evalsvc.dashboards")
    if package is None or find_spec("streamlit") is None:
        raise InputError("the dashboards require Streamlit: pip install 'evalsvc[dashboard]'")
    # A setting of the API, read here because its package needs another extra. Pages without authentication allow no
    # other names.
    named = separated(variable("EVALSVC_ALLOWED_HOSTS") or "")
    hosts = hosts_for(
        host, named if require_token or not is_loopback(host) else (), token_store.usable(Database(Settings().database))
    )
    if require_token:
        os.environ["EVALSVC_DASHBOARD_TOKENS"] = "required"
    # -P: do not import a folder of that name in the working directory
    os.execv(sys.executable, [sys.executable, "-P", "-m", "evalsvc.dashboards", host, str(port), *hosts])
