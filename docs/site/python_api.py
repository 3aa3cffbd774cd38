"""The reference of the Python interface: docstrings, through mkdocstrings."""

from __future__ import annotations

PAGE = """# Python

`import evalsvc` offers the names of this page and imports what each needs when it is first used.

::: evalsvc.api.client.Client
    options:
      members: true

[Metrics](metrics.md) are functions of `evalsvc.metrics.functional`.
"""


def python_page() -> str:
    """Markdown whose ``:::`` blocks mkdocstrings turns into the documentation of a name."""
    return PAGE
