"""The command line. stdout is data, stderr is talk; errors a user can act on exit with 2."""

from __future__ import annotations

import sys


def run() -> None:
    """Entry point. Ctrl-C ends it without a word from the first moment, while modules are being imported."""
    try:
        from evalsvc.cli import main

        main.run()
    except KeyboardInterrupt:
        sys.exit(130)
