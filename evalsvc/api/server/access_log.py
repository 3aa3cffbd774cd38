"""A line in the log for each request; of strangers who are refused, a few a minute."""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.types import Scope

from evalsvc.api.server.token_store import Bearer
from evalsvc.core.observability import logs
from evalsvc.core.observability.rate_limit import RateLimit

log = logging.getLogger("evalsvc.access")
QUIET = ("/healthz", "/readyz", "/metrics")
"""What machines ask every few seconds: told at level debug."""
LONGEST = 300
"""Characters of a path. Queries are left out: they may hold what nobody should read in a log."""


class Repeats(logging.Filter):
    """Of one warning twenty a minute: the server says one for each request that is none, whoever sends it."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = RateLimit(20, 60)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is told; with how many were not."""
        if record.levelno >= logging.ERROR:
            return True
        suppressed = self._limit.admit(record.msg)
        if suppressed:
            record.msg, record.args = f"{record.getMessage()} (and {suppressed} more like it)", ()
        return suppressed is not None


class AccessLog:
    """One for each app."""

    def __init__(self) -> None:
        self._strangers = RateLimit(20, 60)

    def tell(self, scope: Scope, route: str, status: int, seconds: float) -> None:
        """One request that was answered."""
        bearer: Bearer | None = scope.get("state", {}).get("bearer")
        address = (scope.get("client") or ("",))[0]
        level = logging.ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
        who, suppressed = repr(bearer.name) if bearer else "a stranger", 0
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
