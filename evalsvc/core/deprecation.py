"""Deprecated names work and warn during the period that docs/versioning.md states."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any


def warn_deprecated(what: str, *, use: str, removed_in: str) -> None:
    """Warn that ``what`` will be removed in version ``removed_in``.

    Call it directly in the deprecated function: the warning points at the line that called that one.
    """
    message = f"{what} is deprecated and will be removed in evalsvc {removed_in}: use {use}"
    warnings.warn(message, DeprecationWarning, stacklevel=3)


def moved(
    module: str,
    homes: Mapping[str, Collection[str] | None],
    renamed: Mapping[str, str] = MappingProxyType({}),
    removed_in: str = "0.4",
) -> Callable[[str], Any]:
    """Build the ``__getattr__`` of a module whose names moved: each is taken from its new home, with a warning.

    ``homes`` maps each new home to the names to take from it, ``None`` for all its public names. ``renamed`` maps
    former names to those in their new home.
    """

    def get(former: str) -> Any:
        name = renamed.get(former, former)
        for home, names in homes.items():
            if name.startswith("_") or (names is not None and name not in names):
                continue
            found = importlib.import_module(home)
            if hasattr(found, name):
                public = name in importlib.import_module("evalsvc").__all__
                better = f"evalsvc.{name}" if public else f"{home}.{name}"
                warn_deprecated(f"{module}.{former}", use=better, removed_in=removed_in)
                return getattr(found, name)
        raise AttributeError(f"module {module!r} has no attribute {former!r}")

    return get
