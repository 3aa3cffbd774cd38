"""Templates over columns: ``Question: {question}`` is filled in with each row's cells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from evalsvc.inputs.items import cells

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


def fields_of(template: str) -> tuple[str, ...]:
    """Columns that a template names, in order; doubled braces stand for themselves."""
    return tuple(match[1] for match in _FIELD.finditer(template) if match[1])


def fill(template: str, row: Mapping[str, Any]) -> str:
    """The template with the cells of a row; empty cells are empty texts."""
    return _FIELD.sub(lambda match: cells.text(row.get(match[1])) if match[1] else match[0][0], template)
