"""Start the server, with all imports done before it accepts requests.

``evalsvc dashboard`` runs ``python -m evalsvc.dashboards HOST PORT NAME...``; the names are the host names that it
accepts.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module

import pandas as pd
import streamlit.logger
from uvicorn.config import LOGGING_CONFIG

from evalsvc.core.observability import telemetry
from evalsvc.core.settings import Settings
from evalsvc.store import dashboard_queries
from evalsvc.store.session import Database

NEEDED = (
    "altair",
    "PIL.Image",
    "evalsvc.dashboards.charts",
    "evalsvc.dashboards.context",
    "evalsvc.analysis.leaderboard",
)


def warm() -> None:
    """Import the modules of the first page, and those that pandas and SQLAlchemy import lazily."""
    for name in NEEDED:
        import_module(name)
    pd.DataFrame({"x": [1.0]}).style.format(str).to_html()
    with Database(Settings().database).read() as session:
        dashboard_queries.revision(session)


def log_as_one() -> None:
    """Remove the log handlers of Streamlit and uvicorn, so that their errors are logged in our format."""

    def without_handlers(logger: logging.Logger) -> None:
        logger.handlers, logger.propagate = [], True

    streamlit.logger.setup_formatter = without_handlers
    streamlit.logger.update_formatter()
    LOGGING_CONFIG["loggers"] = {}


if __name__ == "__main__":
    from evalsvc.dashboards.server import serve

    settings = Settings()
    telemetry.begin(settings)
    log_as_one()
    warm()
    host, port, *names = sys.argv[1:]
    serve(host, int(port), names)
