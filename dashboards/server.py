"""Run Streamlit's server with every setting defined here."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from streamlit import config, file_util
from streamlit.starlette import App

from evalsvc.dashboards.access import needs_token_at
from evalsvc.dashboards.middleware import Guard
from evalsvc.dashboards.visits import VISITS

APP = Path(__file__).parent / "app.py"


def settings(host: str, port: int, hosts: Sequence[str]) -> dict[str, Any]:
    """Streamlit's settings, including those that restrict access."""
    return {
        "server.address": host,
        "server.port": port,
        "server.allowedHosts": list(hosts),
        "server.corsAllowedOrigins": [],
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.enableAgentApi": False,
        "server.enableStaticServing": False,
        "server.trustedUserHeaders": {},
        "server.headless": True,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
        "client.allowedOrigins": [],
        "client.disableDataExport": True,  # Streamlit's CSV export does not escape formulas; our downloads do
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "client.toolbarMode": "minimal",
        "global.developmentMode": False,
        "runner.magicEnabled": False,
        "theme.base": str(APP.parent / "theme.toml"),
    }


def ignore_files() -> None:
    """Keep Streamlit from reading ``.streamlit/config.toml`` of the working directory, the home directory or this
    package.

    Such a file could override settings that are not set above (such as a remote font), and Streamlit reloads it on
    every change. ``secrets.toml`` belongs to the operator and is still read.
    """
    every = config.get_config_files

    def others(file_name: str) -> list[str]:
        return [] if file_name == "config.toml" else every(file_name)

    config.get_config_files = others


def inline_scripts() -> list[str]:
    """Digests of the inline scripts of Streamlit's page, in the format of a content security policy."""
    page = (Path(file_util.get_static_dir()) / "index.html").read_text(encoding="utf-8")
    scripts = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    return [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]


def serve(host: str, port: int, hosts: Sequence[str]) -> None:
    """Serve until a signal ends the process."""
    ignore_files()
    visits = VISITS if needs_token_at(host) else None
    guard = Middleware(Guard, hosts=hosts, scripts=inline_scripts(), visits=visits)
    App(APP, middleware=[guard]).run(config=settings(host, port, hosts))
