"""The server: ready before it answers, so that whoever opens the first page waits for no import.

``evalsvc dashboard`` starts it; arguments are those of ``streamlit run``.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from pathlib import Path

import pandas as pd
import streamlit.logger
from streamlit.web import cli

from evalsvc import logs
from evalsvc.settings import Settings
from evalsvc.store import overview
from evalsvc.store.session import Database

APP = Path(__file__).parent / "app.py"
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
    settings = Settings()
    logs.setup(settings.log, settings.log_level)
    streamlit.logger.setup_formatter = _into_one_log
    streamlit.logger.update_formatter()
    warm()
    cli.main(["run", str(APP), *sys.argv[1:]], prog_name="streamlit")
