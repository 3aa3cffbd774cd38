"""Names of module classes in options, ``package.module:Class`` or ``FILE.py:Class``, and those inside of arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Target(NamedTuple):
    """A class by its name, in an importable module or in a Python file."""

    place: str
    name: str

    @classmethod
    def of(cls, text: str) -> Target:
        """The target that ``text`` names."""
        place, _, name = text.rpartition(":")
        return cls(place, name)

    @property
    def is_file(self) -> bool:
        """Whether the class is that of a Python file, and not of an installed package."""
        return self.place.endswith(".py")

    def __str__(self) -> str:
        return f"{self.place}:{self.name}"


def is_module(value: Any) -> bool:
    """Whether an argument is a module: ``{"module": TARGET, "arguments": {...}}``."""
    return (
        isinstance(value, Mapping) and isinstance(value.get("module"), str) and value.keys() <= {"module", "arguments"}
    )


def targets_of(module: Any, arguments: Any) -> Iterator[Target]:
    """The module and all that its arguments contain."""
    yield Target.of(str(module))
    for value in _values(arguments):
        if is_module(value):
            yield Target.of(value["module"])


def texts_of(arguments: Any) -> Iterator[str]:
    """The texts in arguments, except names of modules."""
    yield from (value for value in _values(arguments) if isinstance(value, str))


def _values(value: Any) -> Iterator[Any]:
    """A value and all in it; of a module, its arguments."""
    yield value
    if is_module(value):
        value = value.get("arguments")
    if isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _values(inner)
