"""The audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from evalsvc.api.schemas.common import Response


class AuditEntry(Response):
    """An action with its actor and subject; ``request`` is the `x-request-id` of an action over HTTP."""

    id: int
    at: datetime
    actor_kind: Literal["token", "page", "user", "worker"]
    actor: str
    token_id: int | None
    address: str
    request: str
    action: str
    subject: str
    outcome: Literal["done", "unchanged", "refused"]
    detail: dict[str, str | int | float | bool | None]
