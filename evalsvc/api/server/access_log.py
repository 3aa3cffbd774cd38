"""The access log: one line per request, limited to a few per minute for unauthenticated clients."""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.types import Scope

from evalsvc.api.server.token_store import Bearer
from evalsvc.core.observability import logs
from evalsvc.core.observability.rate_limit import RateLimit

log = logging.getLogger("evalsvc.access")
QUIET = ("/healthz", "/readyz", "/metrics")
"""Endpoints that machines poll every few seconds, logged at level debug."""
LONGEST = 300
"""Maximum characters of a logged path. Queries are omitted, because they may contain secrets."""


class Repeats(logging.Filter):
    """Rate limit of a warning to twenty per minute: the server emits one for each malformed request of any client."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = RateLimit(20, 60)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a record; a logged record states how many were suppressed."""
        if record.levelno >= logging.ERROR:
            return True
        suppressed = self._limit.admit(record.msg)
        if suppressed:
            record.msg, record.args = f"{record.getMessage()} (and {suppressed} more like it)", ()
        return suppressed is not None


class AccessLog:
    """The access log of one app."""

    def __init__(self) -> None:
        self._strangers = RateLimit(20, 60)

    def tell(self, scope: Scope, route: str, status: int, seconds: float) -> None:
        """Log one completed request."""
        bearer: Bearer | None = scope.get("state", {}).get("bearer")
        address = (scope.get("client") or ("",))[0]
        level = logging.ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
        who, suppressed = repr(bearer.name) if bearer else "an unauthenticated client", 0
        if bearer is None and HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            admitted = self._strangers.admit(address)
            if admitted is None:
                return
            level, suppressed = logging.WARNING, admitted
        elif route in QUIET and level == logging.INFO:
            level = logging.DEBUG
        facts = logs.fields(
            method=scope["method"],
            route=route,
            status=status,
            ms=round(1000 * seconds, 1),
            token=bearer.name if bearer else None,
            token_id=bearer.id if bearer else None,
            address=address,
            suppressed=suppressed,
        )
        more = f" (and {suppressed} more like it)" if suppressed else ""
        method, path, ms = scope["method"], scope["path"][:LONGEST], 1000 * seconds
        log.log(level, "%s %s %d %.1f ms by %s from %s%s", method, path, status, ms, who, address, more, extra=facts)
