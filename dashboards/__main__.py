"""The server: ready before it answers, so that whoever opens the first page waits for no import.

``evalsvc dashboard`` starts it: ``python -m evalsvc.dashboards HOST PORT NAME...``, the names those that it answers to.
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
    """Import what the first page needs, and what pandas and SQLAlchemy put off until they are used."""
    for name in NEEDED:
        import_module(name)
    pd.DataFrame({"x": [1.0]}).style.format(str).to_html()
    with Database(Settings().database).read() as session:
        dashboard_queries.revision(session)


def log_as_one() -> None:
    """Take their handlers from Streamlit and from uvicorn, which write errors as they come."""

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
