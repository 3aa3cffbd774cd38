"""Environment variables: one that is set and empty is an error, never a default."""

from __future__ import annotations

import os

from evalsvc.core.errors import InputError


def variable(name: str) -> str | None:
    """The value of an environment variable, ``None`` where it is not set.

    Raises:
        InputError: it is set and empty. CI passes a secret that a job may not see as empty text, and a default in its
            place would judge against an empty database.
    """
    value = os.environ.get(name)
    if value is not None and not value.strip():
        raise InputError(f"environment variable {name} is set but empty: unset it, or give it a value")
    return value
