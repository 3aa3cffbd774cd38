"""Values of Python as JSON, between the process of an answer and that of its tests: data, and never code."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

LONGEST_INT = 2**63
_PARTS: Mapping[tuple[str, str], Callable[[Any], tuple[Any, ...]]] = {
    ("builtins", "range"): lambda value: (value.start, value.stop, value.step),
    ("collections", "deque"): lambda value: (list(value),),
    ("datetime", "date"): lambda value: (value.year, value.month, value.day),
    ("datetime", "datetime"): lambda value: (*value.timetuple()[:6], value.microsecond, value.tzinfo),
    ("datetime", "timedelta"): lambda value: (value.days, value.seconds, value.microseconds),
    ("decimal", "Decimal"): lambda value: (str(value),),
    ("fractions", "Fraction"): lambda value: (value.numerator, value.denominator),
}
"""Types of the standard library that are made from data, and the arguments that make an equal value."""


class UnsentError(TypeError):
    """A value cannot be sent to another process."""


def encode(value: Any, refer: Callable[[Any], str | int]) -> Any:
    """A value as JSON. Values of other types than Python's own data are sent as references, which ``refer`` names.

    Subclasses are sent as the type of data that they extend: a named tuple as a tuple, a counter as a dict.

    Raises:
        UnsentError: ``refer`` raises it for a value that has to stay.
        RecursionError: the value contains itself.
    """

    def parts(values: Any) -> list[Any]:
        return [encode(each, refer) for each in values]

    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        plain = int.__int__(value)
        return plain if -LONGEST_INT < plain < LONGEST_INT else {"int": hex(plain)}
    if isinstance(value, float):
        plain_float = float.__float__(value)
        return plain_float if math.isfinite(plain_float) else {"float": repr(plain_float)}
    if isinstance(value, list):
        return parts(value)
    if isinstance(value, dict):
        return {"dict": [parts(pair) for pair in value.items()]}
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: parts(value)}
    if isinstance(value, complex):
        return {"complex": [encode(value.real, refer), encode(value.imag, refer)]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    place = (type(value).__module__, type(value).__qualname__)
    if place in _PARTS:
        return {"made": [*place, *parts(_PARTS[place](value))]}
    return {"ref": refer(value)}


def decode(given: Any, referred: Callable[[Any], Any]) -> Any:
    """The value that JSON of :func:`encode` stands for; ``referred`` finds the value of a reference.

    Raises:
        UnsentError: the JSON does not come from :func:`encode`.
    """

    def parts(values: Any) -> list[Any]:
        return [decode(each, referred) for each in values]

    if isinstance(given, list):
        return parts(given)
    if not isinstance(given, dict):
        return given
    readers: dict[str, Callable[[Any], Any]] = {
        "int": lambda text: int(text, 16),
        "float": float,
        "dict": lambda pairs: dict(map(parts, pairs)),
        "tuple": lambda values: tuple(parts(values)),
        "set": lambda values: set(parts(values)),
        "frozenset": lambda values: frozenset(parts(values)),
        "complex": lambda values: complex(*parts(values)),
        "bytes": bytes.fromhex,
        "made": lambda values: _made(*parts(values)),
        "ref": referred,
    }
    try:
        ((kind, content),) = given.items()
        return readers[kind](content)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError):
        raise UnsentError("is not a value that was sent") from None


def _made(module: str, name: str, *arguments: Any) -> Any:
    if (module, name) not in _PARTS:
        raise KeyError(name)
    return getattr(importlib.import_module(module), name)(*arguments)
