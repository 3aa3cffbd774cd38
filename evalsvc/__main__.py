"""``python -m evalsvc`` is ``evalsvc``."""

from evalsvc.cli.main import run

run()
