"""Names that moved: they work for two minor versions more, and warn."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Collection
from typing import Any


def moved(module: str, homes: dict[str, Collection[str] | None]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that takes names from where they are now, with a DeprecationWarning.

    ``homes`` maps each module to the names that are taken from it, ``None`` for all that it has.
    """

    def get(name: str) -> Any:
        for home, names in homes.items():
            if name.startswith("_") or (names is not None and name not in names):
                continue
            found = importlib.import_module(home)
            if hasattr(found, name):
                public = name in importlib.import_module("evalsvc").__all__
                better = f"evalsvc.{name}" if public else f"{home}.{name}"
                warnings.warn(f"{module}.{name} has moved: use {better}", DeprecationWarning, stacklevel=2)
                return getattr(found, name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return get
