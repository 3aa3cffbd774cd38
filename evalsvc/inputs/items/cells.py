"""Cells of an item file, checked: each function takes a value and raises :class:`CellError` with the reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from evalsvc.plugins.items import Message, Prompt

ROLES = ("system", "user", "assistant")


class CellError(Exception):
    """The fault of a cell: the end of a sentence."""


def is_empty(value: Any) -> bool:
    """Whether a cell has no value: null, NaN or an empty text."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def text(value: Any) -> str:
    """A cell as a text; "" for an empty one. Lists and objects are written as JSON."""
    if is_empty(value):
        return ""
    if isinstance(value, bytes):
        raise CellError("holds bytes: use a text")
    said = value if isinstance(value, str) else _json(value)
    if not said.isascii() and any("\ud800" <= character <= "\udfff" for character in said):
        raise CellError("contains a lone surrogate: repair or remove it")
    return said


def prompt(value: Any) -> Prompt:
    """A text, or the messages of a chat."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        if not (found := text(value)).strip():
            raise CellError("is empty: fill it, or remove the row")
        return found
    messages = []
    for each in value:
        if not isinstance(each, Mapping) or set(each) != {"role", "content"} or each["role"] not in ROLES:
            raise CellError(f"is not a chat: use messages with 'role' ({', '.join(ROLES)}) and 'content'")
        messages.append(Message(each["role"], text(each["content"])))
    if not messages:
        raise CellError("is empty: fill it, or remove the row")
    return tuple(messages)


def label(value: Any) -> int:
    """A class label."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise CellError(f"is not a class label ({_shown(value)}): use integers from 0")
    return value


def targets(value: Any) -> tuple[str, ...]:
    """The right answers of an item: none, one, or a list of them."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return tuple(text(each) for each in value if not is_empty(each))
    return () if is_empty(value) else (text(value),)


def choices(value: Any) -> tuple[str, ...]:
    """The choices of an item: a list, the JSON of one, or an object with the list ``text``."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise CellError('is not a list of choices: use a list, or JSON like ["yes", "no"]') from None
    if isinstance(value, Mapping):
        value = value.get("text")
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) < 2:
        raise CellError("is not a list of at least two choices")
    return tuple(text(each) for each in value)


def answer(value: Any, given: tuple[str, ...], names: Any = None) -> str | int:
    """The index of the right one of ``given`` choices, from its index, letter, text or one of ``names``.

    Without choices it is a text.
    """
    if not given:
        return text(value)
    if is_empty(value):
        return ""
    said = text(value).strip()
    if isinstance(value, str) and said in given:
        index = given.index(said)
    elif isinstance(names, Sequence) and said in (labels := [text(each) for each in names]):
        index = labels.index(said)
    elif re.fullmatch(r"[0-9]{1,9}", said):
        index = int(said)
    elif re.fullmatch(r"[A-Za-z]", said):
        index = ord(said.upper()) - ord("A")
    else:
        index = -1
    if not 0 <= index < len(given):
        raise CellError(f"does not name one of the {len(given)} choices ({_shown(value)})")
    return index


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):  # dates, decimal numbers, NaN within lists
        return str(value)


def _shown(value: Any) -> str:
    return repr(value)[:40]
