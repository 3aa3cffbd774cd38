"""Names of module classes in options, ``package.module:Class`` or ``FILE.py:Class``, and those inside of arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
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

    def absolute(self) -> Target:
        """The same class, of a file by its absolute path."""
        return Target(str(Path(self.place).resolve()), self.name) if self.is_file else self

    def __str__(self) -> str:
        return f"{self.place}:{self.name}"


def is_module(value: Any) -> bool:
    """Whether an argument is a module: ``{"module": TARGET, "arguments": {...}}``."""
    return (
        isinstance(value, Mapping) and isinstance(value.get("module"), str) and value.keys() <= {"module", "arguments"}
    )


def targets_of(arguments: Any) -> Iterator[Target]:
    """The modules that arguments contain."""
    for value in _values(arguments):
        if is_module(value):
            yield Target.of(value["module"])


def texts_of(arguments: Any) -> Iterator[str]:
    """The texts in arguments, except names of modules."""
    yield from (value for value in _values(arguments) if isinstance(value, str))


def replaced(arguments: Any, change: Callable[[Target], object]) -> Any:
    """Arguments with another name of each module: the text of the result of ``change``."""
    if isinstance(arguments, list | tuple):
        return [replaced(value, change) for value in arguments]
    if not isinstance(arguments, Mapping):
        return arguments
    changed = {name: replaced(value, change) for name, value in arguments.items()}
    return changed | ({"module": str(change(Target.of(arguments["module"])))} if is_module(arguments) else {})


def _values(value: Any) -> Iterator[Any]:
    """A value and all in it; of a module, its arguments."""
    yield value
    if is_module(value):
        value = value.get("arguments")
    if isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _values(inner)
