"""Tokens of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from evalsvc.api.schemas.common import Request, Response, Text

ScopeName = Literal["read", "submit", "worker", "admin"]


class Token(Response):
    """What a bearer may do. The secret itself is stored nowhere."""

    id: int
    name: str
    scopes: list[ScopeName]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class TokenCreated(Token):
    """A token as it is made: its secret shows this once."""

    token: str


class TokenCreate(Request):
    """Ask for a token; ``days`` until it ends."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "ci", "scopes": ["submit"], "days": 90}]})

    name: Text
    scopes: Annotated[list[ScopeName], Field(min_length=1, max_length=4)]
    days: Annotated[int, Field(ge=1, le=3650)] | None = 90
