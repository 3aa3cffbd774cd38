"""Suites and references."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from evalsvc.api.schemas.common import Response


class Suite(Response):
    """The definition of an evaluation. ``body`` is the complete suite."""

    id: str
    description: str
    modality: str
    samples: int
    digest: str | None
    body: dict[str, Any]


class Reference(Response):
    """A named and digested set of real samples."""

    name: str
    modality: str
    count: int
    digest: str
    heldout_count: int | None
    heldout_digest: str | None
    created_at: datetime
