"""Limits on the number and duration of connections, which uvicorn does not provide."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from evalsvc.api.server.client_addresses import TrustedProxies, address_key
from evalsvc.core.observability.rate_limit import RateLimit

log = logging.getLogger(__name__)
RESERVED_FILES = 256
"""File descriptors reserved for the database, uploads and child processes."""
MOST_ENDED = 50
"""Maximum number of idle connections of one address that one sweep closes."""


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits on counts of connections, seconds, and bytes.

    The head of a request may take ``head`` seconds; its body ``body`` seconds plus one for each ``rate`` received
    bytes. A client that does not read its response for ``write`` seconds is disconnected. The rest of a body whose
    request was already answered is read for ``linger`` seconds. ``head_bytes`` also limits trailers and chunk
    extensions.
    """

    total: int = 4000
    per_address: int = 500
    head: float = 10.0
    body: float = 30.0
    rate: int = 16384
    write: float = 30.0
    linger: float = 5.0
    keep_alive: int = 5
    head_bytes: int = 65536
    pipelined: int = 16
    sweep: float = 0.5


class Connections:
    """All open connections of one server, oldest first, in one event loop.

    If there are too many, the oldest connections without a request are closed, so that half-sent requests and idle
    connections never keep other clients out. A new connection is refused only if all connections are active.
    """

    def __init__(self, limits: ConnectionLimits, proxies: TrustedProxies) -> None:
        self.limits, self._proxies = limits, proxies
        self._all: dict[Connection, None] = {}
        self._by_address: dict[str, dict[Connection, None]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._said = RateLimit(1, 60)

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, new: Connection) -> bool:
        """Count a connection; return whether there is room for it."""
        peer, own, room = new.client[0] if new.client else "", None, True
        if peer not in self._proxies:
            new.key = address_key(peer)
            own = self._by_address.setdefault(new.key, {})
            # Excess idle connections are closed by the sweep and not here: new connections have not had the time to
            # send
            # a request, and a client that reconnects at once would be admitted as fast as it can connect.
            room = len(own) < self.limits.per_address or sum(each.busy for each in own) < self.limits.per_address
        if room and len(self._all) >= self.limits.total:
            most = max(self._by_address.values(), key=len, default=self._all)
            room = _end_idle(most, 1) or _end_idle(self._all, 1)
        self._all[new] = None
        if own is not None:
            own[new] = None
        if self._sweeping is None:
            self._sweeping = new.loop.call_later(self.limits.sweep, self._sweep, new.loop)
        return room

    def leave(self, connection: Connection) -> None:
        """Remove a connection from the count."""
        self._all.pop(connection, None)
        if own := self._by_address.get(connection.key):
            own.pop(connection, None)
            if not own:
                del self._by_address[connection.key]

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        for connection in list(self._all):
            connection.check(loop.time())
        for address, own in self._by_address.items():
            over = len(own) - self.limits.per_address
            if over > 0 and _end_idle(own, min(over, MOST_ENDED)) and self._said.admit(address) is not None:
                log.warning("%s has %d connections open: closing those without a request", address, len(own))
        self._sweeping = loop.call_later(self.limits.sweep, self._sweep, loop) if self._all else None


def _end_idle(among: Iterable[Connection], count: int) -> bool:
    """Close the oldest connections without a request, first those that never had one; return whether
    there were enough.
    """
    idle = [each for each in among if not each.busy and not each.ended] if count > 0 else []
    idle.sort(key=lambda each: each.cycle is not None)
    for victim in idle[:count]:
        victim.ended = True
        victim.transport.abort()
    return len(idle) >= count


class Connection(HttpToolsProtocol):
    """One connection, with limits that uvicorn does not provide."""

    transport: asyncio.Transport

    def __init__(self, register: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._register, self._limits = register, register.limits
        self.key = ""
        self.ended = False
        """Whether the connection is being closed; further input is discarded."""
        self._since = self._checked = self.loop.time()
        self._body: int | None = None
        """Received bytes of an incomplete body; ``None`` between bodies."""
        self._steps = self._silent = 0
        self._blocked_since: float | None = None

    @property
    def busy(self) -> bool:
        """Whether a request was received whose response is not complete."""
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, or refuse it."""
        super().connection_made(transport)
        if self._register.admit(self):
            return
        if len(self._register) > self._limits.total + RESERVED_FILES // 4:
            self.ended = True
            self.transport.abort()
        else:
            self._end(b"503 Service Unavailable", b"this server has too many connections: try again")

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection from the count."""
        self._register.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the input, unless it exceeds the limit for one head."""
        if self.ended:
            return
        before = self._steps
        super().data_received(data)
        # Without progress, the parser buffers at most one unfinished head, trailer or chunk extension.
        self._silent = self._silent + len(data) if self._steps == before else 0
        if self._silent > self._limits.head_bytes:
            text = b"the head of a request ends at %d bytes" % self._limits.head_bytes
            self._end(b"431 Request Header Fields Too Large", text)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._steps += 1

    def on_headers_complete(self) -> None:
        """A body begins, and with it its time limit."""
        self._steps += 1
        self._body, self._since = 0, self.loop.time()
        if len(self.pipeline) >= self._limits.pipelined:
            self.ended = True
            self.transport.abort()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Part of the body was received."""
        self._steps += 1
        self._body = (self._body or 0) + len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._steps += 1
        self._body = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The time limit of the next head begins."""
        self._since = self.loop.time()
        super().on_response_complete()

    def resume_writing(self) -> None:
        """The write buffer has drained: the client reads its response."""
        self._blocked_since = None
        super().resume_writing()

    def check(self, now: float) -> None:
        """Close the connection if it takes too long; called every ``sweep`` seconds."""
        passed, self._checked = now - self._checked, now
        self._since += max(0.0, passed - 2 * self._limits.sweep)  # the server itself was delayed
        if not self.transport.get_write_buffer_size():
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = now
        if self._blocked_since is not None and now - self._blocked_since > self._limits.write:
            # Reset it; otherwise the kernel keeps the rest of the response for a client that never reads it.
            if (own := self.transport.get_extra_info("socket")) is not None:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        elif self.ended:
            if now - self._since > 2 * self._limits.sweep:
                self.transport.abort()
        elif self.flow.read_paused or (self.busy and self.cycle.waiting_for_100_continue):
            self._since += passed  # the server is not reading
        elif self._body is not None:
            allowed = self._limits.body + self._body / self._limits.rate if self.busy else self._limits.linger
            if now - self._since > allowed:
                self._end(b"408 Request Timeout", b"the body of the request came too slowly")
        elif not self.busy and now - self._since > self._limits.head + (self._limits.keep_alive if self.cycle else 0):
            self.ended = True
            self.transport.close()  # without a response: there was no request

    def _end(self, status: bytes, text: bytes) -> None:
        """Send the reason, unless a response was started, and close; further input is discarded for a moment.

        Closing at once would reset a connection with unread input, and the client would not receive the reason.
        """
        self.ended, self._since = True, self.loop.time()
        if self.transport.is_closing():
            return
        if not self.busy or not self.cycle.response_started:
            head = b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nretry-after: 5\r\n"
            self.transport.write(head % (status, len(text)) + b"connection: close\r\n\r\n" + text)
        if self.busy:
            self.transport.close()  # notify the application at once
        elif self.transport.can_write_eof():
            self.transport.write_eof()


def configured(
    app: Any, host: str, port: int, limits: ConnectionLimits, proxies: Sequence[str] = (), **options: Any
) -> Config:
    """uvicorn's configuration of a server with these limits; ``proxies`` are the trusted ones."""
    register = Connections(limits, TrustedProxies(proxies))

    class Limited(Connection):
        made_for = register

        def __init__(self, **given: Any) -> None:
            super().__init__(register, **given)

    return Config(
        app,
        host=host,
        port=port,
        http=Limited,
        ws="none",
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        timeout_keep_alive=limits.keep_alive,
        **options,
    )


def open_files(wanted: int) -> int:
    """Raise the limit on open files as far as possible; return how many of the ``wanted`` connections fit."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + RESERVED_FILES
    if soft < most and soft != resource.RLIM_INFINITY:
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, max(soft - RESERVED_FILES, soft // 2))
