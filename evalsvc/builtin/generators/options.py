"""Options of a generator as a model of pydantic, and the sentence about the first mistake in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from evalsvc.core.errors import InputError

Options = TypeVar("Options", bound=BaseModel)


def options_of(kind: type[Options], given: Mapping[str, Any], who: str) -> Options:
    """Options from their plain form; ``who`` ("generator 'torch-module'") is named in errors.

    Raises:
        InputError: an option is missing, unknown or invalid.
    """
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
    name, said = str(first["loc"][0]), str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        raise InputError(f"unknown option {name} of {who}: use {', '.join(kind.model_fields)}")
    if first["type"] == "missing":
        raise InputError(f"{who} needs option {name}: add it")
    raise InputError(f"invalid option {name}={given[name]!r} of {who}: {said[:1].lower()}{said[1:]}")
