"""The server: ready before it answers, so that whoever opens the first page waits for no import.

``evalsvc dashboard`` starts it: ``python -m dashboards HOST PORT NAME...``, the names those that it answers to.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module

import pandas as pd
import streamlit.logger

from evalsvc import telemetry
from evalsvc.settings import Settings
from evalsvc.store import overview
from evalsvc.store.session import Database

NEEDED = ("altair", "PIL.Image", "dashboards.charts", "dashboards.opened", "evalsvc.leaderboard")


def warm() -> None:
    """Import what the first page needs, and what pandas and SQLAlchemy put off until they are used."""
    for name in NEEDED:
        import_module(name)
    pd.DataFrame({"x": [1.0]}).style.format(str).to_html()
    with Database(Settings().database).read() as session:
        overview.revision(session)


def _into_one_log(logger: logging.Logger) -> None:
    """In place of Streamlit's own handler, which has no setting and writes errors as they come."""
    logger.handlers, logger.propagate = [], True


if __name__ == "__main__":
    from dashboards.server import serve

    settings = Settings()
    telemetry.begin(settings)
    streamlit.logger.setup_formatter = _into_one_log
    streamlit.logger.update_formatter()
    warm()
    host, port, *names = sys.argv[1:]
    serve(host, int(port), names)
