"""Prompts of judges: templates filled in one pass, and data between marks that the data cannot contain."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with each ``{field}`` replaced by its value, in one pass: fields within values stay as they are."""
    pattern = "|".join(re.escape(f"{{{name}}}") for name in values)
    return re.sub(pattern, lambda match: values[match[0][1:-1]], template)


def marked(name: str, text: str) -> str:
    """A text between two marks. Their number is a digest of the text, so that no text contains its own end mark.

    Half surrogate pairs, which UTF-8 cannot encode, are escaped.
    """
    text = text.encode(errors="backslashreplace").decode()
    number = digest_json([name, text])[:12]
    return f"<{name} {number}>\n{text}\n</{name} {number}>"


def require_fields(what: str, template: str, needed: Collection[str]) -> None:
    """Raise unless a template has all needed fields.

    Raises:
        InputError: one is missing.
    """
    for name in needed:
        if f"{{{name}}}" not in template:
            raise InputError(f"option template of {what} lacks {{{name}}}: add it")
