"""The reference of the Python interface: the docstrings of all public names, through mkdocstrings."""

from __future__ import annotations

import inspect
from typing import Any

import evalsvc
from evalsvc.integrations.python.results import Comparison, Leaderboard, Run, Scores
from evalsvc.metrics.score import Score

INTRODUCTION = """# Python

`import evalsvc` offers these names; each imports what it needs when it is first used. Everything else is internal and
may change without notice: [versions and promises](../versioning.md). Metrics are functions of
`evalsvc.metrics.functional`: [Metrics](metrics.md).
"""


def python_page() -> str:
    """Markdown whose ``:::`` blocks mkdocstrings turns into the documentation of each public name."""
    public = [getattr(evalsvc, name) for name in sorted(evalsvc.__all__)]
    groups = {
        "Functions": [each for each in public if inspect.isfunction(each)],
        "Results": [Run, Comparison, Leaderboard, Scores, Score],
        "Classes": [each for each in public if inspect.isclass(each)],
    }
    parts = [[f"## {heading}\n", *map(_entry, group)] for heading, group in groups.items()]
    return "\n".join([INTRODUCTION, *(line for part in parts for line in part)])


def _entry(each: Any) -> str:
    return f"::: {each.__module__}.{each.__qualname__}\n"
