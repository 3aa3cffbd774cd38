"""Middleware for every request of any route: host names, headers, counters."""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter
from collections.abc import Collection
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evalsvc.api.server.access_log import AccessLog
from evalsvc.api.server.auth import LARGEST_BODY
from evalsvc.api.server.client_addresses import address_key
from evalsvc.api.server.monitoring import Monitor
from evalsvc.api.server.problems import answer
from evalsvc.core.observability import logs

UPLOADS = "/api/v1/uploads"
"""The upload route, which has a limit of its own."""
REQUEST_ID = "x-request-id"
"""Header of a request and its response: a well-formed id of the client is kept, so that one id spans services."""
WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}")
HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


class Guards:
    """Reject host names that are not the server's, so that no web page can reach it by DNS rebinding.

    An address, which behind a trusted proxy is known only from the request, may have ``per_address`` open requests.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], monitor: Monitor, per_address: int) -> None:
        self._app, self._hosts, self._monitor = app, frozenset(hosts), monitor
        self._per_address, self._open = per_address, Counter[str]()
        self._access_log = AccessLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        request = given if WELL_FORMED.fullmatch(given) else uuid.uuid4().hex
        logs.request_id.set(request)
        started, status = time.perf_counter(), int(HTTPStatus.INTERNAL_SERVER_ERROR)

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = MutableHeaders(scope=message)
                answered[REQUEST_ID] = request
                for name, value in HEADERS.items():
                    answered.setdefault(name, value)
            await send(message)

        announced = headers.get("content-length", "")
        client = address_key((scope.get("client") or ("", 0))[0])
        self._open[client] += 1
        try:
            if self._open[client] > self._per_address:
                refusal = answer(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    f"your address has {self._per_address} open requests: wait for one to end",
                    {"retry-after": "5"},
                )
                await refusal(scope, receive, with_headers)
            elif host_name(headers.get("host", "")) not in self._hosts:
                refusal = answer(
                    HTTPStatus.MISDIRECTED_REQUEST,
                    "unknown host name: use one of EVALSVC_ALLOWED_HOSTS",
                )
                await refusal(scope, receive, with_headers)
            elif announced.isdecimal() and int(announced) > LARGEST_BODY and scope["path"] != UPLOADS:
                refusal = answer(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the request body exceeds the limit of {LARGEST_BODY} bytes"
                )
                await refusal(scope, receive, with_headers)
            else:
                await self._app(scope, receive, with_headers)
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]
            route = getattr(scope.get("route"), "path", "unmatched")
            seconds = time.perf_counter() - started
            self._monitor.observe(scope["method"], route, status, seconds)
            self._access_log.tell(scope, route, status, seconds)


def host_name(header: str) -> str:
    """The name in a Host header, without port or brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
