"""Names, numbers and documents shared by all requests; pages and errors."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

Item = TypeVar("Item")

# Databases cannot store NUL, and control characters in names are mistakes.
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""Name of a checkpoint, which may be longer than the name of its model."""
LongText = Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00-\x1f\x7f]+$")]
Reason = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digits = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8,64}$")]
SuiteName = Annotated[str, StringConstraints(max_length=110, pattern=r"^[a-z0-9][a-z0-9._-]{0,99}(@[1-9][0-9]{0,5})?$")]
Id = Annotated[int, Field(ge=1, lt=2**31)]
Whole = Annotated[int, Field(ge=0, lt=2**63)]

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _sound(value: Any, depth: int = 0) -> Any:
    """Reject values that a database cannot store: NUL, lone surrogates, non-finite numbers, deep nesting."""
    if depth > 20:
        raise ValueError("is nested more than 20 levels deep")
    if isinstance(value, str) and _UNSTORABLE.search(value):
        raise ValueError("contains a character that cannot be stored")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("contains an integer of more than 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("contains a number that is not finite")
    if isinstance(value, dict):
        for key, each in value.items():
            _sound(key)
            _sound(each, depth + 1)
    if isinstance(value, list):
        for each in value:
            _sound(each, depth + 1)
    return value


Document = Annotated[dict[str, Any], AfterValidator(_sound)]
PolicyText = Document | Annotated[str, StringConstraints(max_length=65_536), AfterValidator(_sound)]
EXAMPLE_POLICY: dict[str, JsonValue] = {
    "version": 1,
    "suite": "digits@1",
    "baseline": {"alias": "production"},
    "metrics": {"frechet_distance": {"max_worsening": 2.0}},
}


class Response(BaseModel):
    """Base of responses: clients ignore fields that a newer server adds."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class Request(BaseModel):
    """Base of requests: servers reject unknown fields, so that a misspelled field is not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class CliOption:
    """Metadata of a field: its command-line option, if its name, help or default differs."""

    name: str = ""
    help: str = ""
    default: str | None = None


class Page(Response, Generic[Item]):
    """One page of items; ``next`` is the cursor of the next page, and null on the last page."""

    items: list[Item]
    next: str | None = None


class FieldError(Response):
    """An invalid field; ``pointer`` is a JSON pointer into the request."""

    pointer: str
    detail: str


class Problem(Response):
    """An error as defined by RFC 9457; ``detail`` is one sentence with a way out.

    For an ambiguous name (``urn:evalsvc:problem:ambiguous-name``), each of ``choices`` names one checkpoint.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:evalsvc:problem:not-found",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "there is no checkpoint 'flow@7'; models are flow, gan",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []
    choices: list[str] = []
