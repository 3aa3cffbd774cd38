"""The command line. Data goes to stdout, messages to stderr; errors that the user can fix exit with 2."""

from __future__ import annotations

import sys


def run() -> None:
    """Entry point. Ctrl-C exits without a traceback at any time, even while modules are being imported."""
    try:
        from evalsvc.cli import main

        main.run()
    except KeyboardInterrupt:
        sys.exit(130)
