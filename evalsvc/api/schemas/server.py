"""The server itself."""

from __future__ import annotations

from typing import Literal

from evalsvc.api.schemas.common import Response
from evalsvc.api.schemas.tokens import ScopeName


class Health(Response):
    """Liveness: ``ok``, or no response."""

    status: Literal["ok"] = "ok"


class About(Response):
    """The server, and the permissions of this token."""

    version: str
    token: str
    scopes: list[ScopeName]
