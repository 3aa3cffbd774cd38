"""What every process that stays does first: its log, and traces where they are asked for."""

from __future__ import annotations

from evalsvc.core.observability import logs, tracing
from evalsvc.core.settings import Settings


def begin(settings: Settings) -> None:
    """Log as the settings say, and make spans if they do.

    Raises:
        InputError: traces are asked for, and their package is missing.
    """
    logs.setup(settings.log, settings.log_level)
    tracing.setup(settings.traces)
