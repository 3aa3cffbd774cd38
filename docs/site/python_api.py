"""The reference of the Python interface: the docstrings of all public names, through mkdocstrings."""

from __future__ import annotations

import inspect

import evalsvc

INTRODUCTION = """# Python

`import evalsvc` offers these names; each imports what it needs when it is first used. Everything else is internal and
may change without notice: [versions and promises](../versioning.md). Metrics are functions of
`evalsvc.metrics.functional`: [Metrics](metrics.md).
"""


def python_page() -> str:
    """Markdown whose ``:::`` blocks mkdocstrings turns into the documentation of each public name."""
    public = {name: getattr(evalsvc, name) for name in sorted(evalsvc.__all__) if not name.startswith("_")}
    functions = [name for name, each in public.items() if inspect.isfunction(each)]
    classes = [name for name, each in public.items() if inspect.isclass(each)]
    return "\n".join([INTRODUCTION, "## Functions\n", *map(_entry, functions), "## Classes\n", *map(_entry, classes)])


def _entry(name: str) -> str:
    home = getattr(evalsvc, name)
    return f"::: {home.__module__}.{home.__qualname__}\n"
