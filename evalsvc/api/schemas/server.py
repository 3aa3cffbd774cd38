"""The server itself."""

from __future__ import annotations

from typing import Literal

from evalsvc.api.schemas.common import Response
from evalsvc.api.schemas.tokens import ScopeName


class Health(Response):
    """``ok``, or the server does not answer at all."""

    status: Literal["ok"] = "ok"


class About(Response):
    """The server, and what the bearer of this token may do."""

    version: str
    token: str
    scopes: list[ScopeName]
