"""Tokens of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from evalsvc.api.schemas.common import Request, Response, Text

ScopeName = Literal["read", "submit", "worker", "admin"]


class Token(Response):
    """A token and its permissions. The secret itself is not stored."""

    id: int
    name: str
    scopes: list[ScopeName]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class TokenCreated(Token):
    """A new token; the only response that contains its secret."""

    token: str


class TokenCreate(Request):
    """Create a token; ``days`` until it expires."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "ci", "scopes": ["submit"], "days": 90}]})

    name: Text
    scopes: Annotated[list[ScopeName], Field(min_length=1, max_length=4)]
    days: Annotated[int, Field(ge=1, le=3650)] | None = 90
