"""What the processes say on standard error."""

from __future__ import annotations

from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("evalsvc_request_id", default="")
"""Of the HTTP request that is being answered."""
