"""Progress of a command on stderr."""

from __future__ import annotations

from contextlib import AbstractContextManager

from evalsvc.cli.console import err, visible
from evalsvc.core.observability.progress_bars import Bars
from evalsvc.core.observability.progress_bars import progress_bars as bars_on


def progress_bars() -> AbstractContextManager[Bars]:
    """Bars on stderr that are gone at the end."""
    return bars_on(err, visible)
