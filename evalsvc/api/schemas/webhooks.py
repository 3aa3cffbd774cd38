"""Webhooks and their events."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from evalsvc.api.schemas.common import LongText, Request, Response

EventName = Literal["evaluation.ended", "gate.decided"]
EVENTS: tuple[EventName, ...] = ("evaluation.ended", "gate.decided")


class Webhook(Response):
    """A URL that receives events."""

    id: int
    url: str
    events: list[EventName]
    created_at: datetime
    failing_since: datetime | None
    last_error: str | None


class WebhookCreated(Webhook):
    """A new webhook; the only response that contains the secret that signs its messages."""

    secret: str


class WebhookCreate(Request):
    """Create a webhook."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://ci.example.com/evalsvc", "events": ["gate.decided"]}]}
    )

    url: Annotated[LongText, StringConstraints(pattern=r"^https?://")]
    events: Annotated[list[EventName], Field(min_length=1, max_length=2)] = Field(default=list(EVENTS))
