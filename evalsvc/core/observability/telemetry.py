"""Set-up of logs and traces in long-running processes."""

from __future__ import annotations

from evalsvc.core.observability import logs, tracing
from evalsvc.core.settings import Settings


def begin(settings: Settings) -> None:
    """Set up logs and traces according to the settings.

    Raises:
        InputError: traces are enabled, but their package is missing.
    """
    logs.setup(settings.log, settings.log_level)
    tracing.setup(settings.traces)
