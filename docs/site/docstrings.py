"""A griffe extension: docstrings become Markdown, their examples blocks of code and their cross-references code."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
ROLE = re.compile(r":(?:class|func|mod|data|meth|attr):`~?([^`]+)`")


class Markdown(griffe.Extension):
    """Rewrite each docstring once it is read."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """A docstring in which each example is a block and each role plain code."""
    text = ROLE.sub(lambda role: f"`{role[1]}`", docstring)
    return EXAMPLE.sub(lambda example: f"```pycon\n{example[0]}\n```", text)
