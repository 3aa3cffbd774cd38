"""Middleware for every request before Streamlit handles it: host names, origins, headers, and access to files."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evalsvc.dashboards.visits import COOKIE, Visits

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = {
    "default-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
"""Content security policy: load resources from this server only, and forbid embedding in frames of other sites."""
HEADERS = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
UNKNOWN_HOST = "Unknown host name: use localhost, or with tokens a name listed in EVALSVC_ALLOWED_HOSTS.\n"
READING = ("GET", "HEAD")
BLOCKED_PATHS = ("/_stcore/agent", "/_stcore/metrics", "/_stcore/upload_file", "/_stcore/script-health-check")
"""Endpoints of Streamlit's server that no page needs."""
FRONT = "/leaderboard"
"""The page at ``/``, which Streamlit does not serve under its own name."""
MAX_LOGGED_REFUSALS = 50
"""Maximum number of logged refusals."""
DEFAULT_PORTS = {"http": 80, "https": 443}


class Guard:
    """Accept requests for the server's own host names only, and socket connections from its own pages only.

    Browsers send the origin of the page with every socket connection. A page on another port of this machine has
    another origin, and so has a page whose host name was made to resolve to this machine (DNS rebinding).
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Collection[str], scripts: Collection[str] = (), visits: Visits | None = None
    ) -> None:
        """``scripts`` are digests of inline scripts; ``visits`` are set if files require a session."""
        self._app, self._hosts, self._visits = app, frozenset(hosts), visits
        self._told: set[tuple[str, str]] = set()
        own = " ".join(["'self'", *(f"'sha256-{digest}'" for digest in scripts)])
        policy = "; ".join(f"{name} {value}" for name, value in {**CONTENT_SECURITY_POLICY, "script-src": own}.items())
        self._headers = HEADERS | {"content-security-policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or one socket."""
        headers = Headers(scope=scope) if scope["type"] in ("http", "websocket") else Headers()
        if scope["type"] == "websocket":
            host, origins = headers.get("host", ""), headers.getlist("origin")
            if not self._own(host) or not same_origin(origins, host):
                self._log_refusal(host, ", ".join(origins))
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            visit = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
            answer = self._refusal(scope, headers, visit) or self._app
            await answer(scope, receive, self._with_headers(scope, visit, send))
        else:
            await self._app(scope, receive, send)

    def _log_refusal(self, host: str, origin: str) -> None:
        """Log each kind of refusal once and up to a limit, because clients can invent any number of them."""
        if (host, origin) not in self._told and len(self._told) < MAX_LOGGED_REFUSALS:
            self._told.add((host, origin))
            log.warning(
                "refused a socket connection from a page of %r to %r: behind a proxy, forward the Host header and "
                "add its name to EVALSVC_ALLOWED_HOSTS",
                origin[:200],
                host[:200],
            )

    def _own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name in self._hosts

    def _refusal(self, scope: Scope, headers: Headers, visit: str) -> Response | None:
        path: str = scope["path"].rstrip("/")
        if not self._own(headers.get("host", "")):
            return PlainTextResponse(UNKNOWN_HOST, 421)
        if scope["method"] not in READING:
            return PlainTextResponse("Method not allowed.\n", 405, {"allow": ", ".join(READING)})
        if any(path == part or path.startswith(f"{part}/") for part in BLOCKED_PATHS):
            return PlainTextResponse("Not found.\n", 404)
        if path.startswith("/media") and self._visits is not None and not self._visits.is_admitted(visit):
            return PlainTextResponse("Sign in to the dashboards to download this file.\n", 403)
        if path == FRONT:
            query = scope["query_string"].decode("latin-1")
            return RedirectResponse(("../" if scope["path"].endswith("/") else "./") + (query and f"?{query}"))
        return None

    def _with_headers(self, scope: Scope, visit: str, send: Send) -> Callable[[Message], Awaitable[None]]:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                if self._visits is not None and not visit and "text/html" in headers.get("content-type", ""):
                    secure = "; Secure" if scope["scheme"] == "https" else ""
                    named = f"{COOKIE}={secrets.token_urlsafe(32)}; HttpOnly; SameSite=Lax; Path=/{secure}"
                    headers.append("set-cookie", named)
            await send(message)

        return with_headers


def same_origin(origins: list[str], host: str) -> bool:
    """Whether the only origin of a request is the requested server, including its port."""
    if len(origins) != 1:
        return False
    try:
        origin, asked = urlsplit(origins[0]), urlsplit(f"//{host}")
        default = DEFAULT_PORTS.get(origin.scheme)
        here, there = (asked.hostname, asked.port or default), (origin.hostname, origin.port or default)
    except ValueError:
        return False
    bare = f"{origin.scheme}://{origin.netloc}" == origins[0] and "@" not in origin.netloc
    return default is not None and bare and here == there
