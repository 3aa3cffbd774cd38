"""Environment variables: a variable that is set but empty raises an error."""

from __future__ import annotations

import os

from evalsvc.core.errors import InputError


def variable(name: str) -> str | None:
    """Value of an environment variable, or ``None`` if it is not set.

    Raises:
        InputError: it is set but empty. CI systems pass an inaccessible secret as empty text, and a default would make
            a gate read an empty database.
    """
    value = os.environ.get(name)
    if value is not None and not value.strip():
        raise InputError(f"environment variable {name} is set but empty: unset it, or give it a value")
    return value
