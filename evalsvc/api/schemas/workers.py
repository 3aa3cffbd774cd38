"""Worker processes."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from evalsvc.api.schemas.common import Response


class Worker(Response):
    """A worker process of the queue and its current task."""

    id: str
    role: Literal["slot", "coordinator"]
    host: str
    pid: int
    device: str
    status: Literal["alive", "draining", "stopped", "lost"]
    started_at: datetime
    seen_at: datetime
    evaluation_id: int | None
    stage: str | None
    done: int
