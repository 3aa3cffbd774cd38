"""Connections: how many there may be, from whom, and how long each may take. uvicorn itself limits none of these."""

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
"""Descriptors that are kept for the database, uploads and child processes."""
MOST_ENDED = 50
"""Idle connections of one address that one sweep ends."""


@dataclass(frozen=True)
class ConnectionLimits:
    """Counts of connections, seconds, and bytes.

    A request's head may take ``head`` seconds; its body ``body`` seconds and one more for each ``rate`` bytes that
    came; a client that takes up nothing of its response for ``write`` seconds is cut off. The rest of a body whose
    request is answered already is read for ``linger`` seconds. ``head_bytes`` bounds trailers and chunk extensions too.
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
    """All open connections of one server, the oldest first. One event loop's.

    Where there are too many, the oldest without a request go: half-sent requests and idle connections never keep
    anybody out. Only where all of them are at work, a new one is refused.
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
        """Count a connection; whether there is room for it."""
        peer, own, room = new.client[0] if new.client else "", None, True
        if peer not in self._proxies:
            new.key = address_key(peer)
            own = self._by_address.setdefault(new.key, {})
            # Too many that do nothing are ended by the sweep and not here: those that have just come have not had the
            # time to ask, and a client that opens each again at once would be given new ones as fast as it can.
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
        """Forget a connection."""
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
                log.warning("%s has %d connections open: those without a request are closed", address, len(own))
        self._sweeping = loop.call_later(self.limits.sweep, self._sweep, loop) if self._all else None


def _end_idle(among: Iterable[Connection], count: int) -> bool:
    """End the oldest connections without a request, first those that never had one; whether there were so many."""
    idle = [each for each in among if not each.busy and not each.ended] if count > 0 else []
    idle.sort(key=lambda each: each.cycle is not None)
    for victim in idle[:count]:
        victim.ended = True
        victim.transport.abort()
    return len(idle) >= count


class Connection(HttpToolsProtocol):
    """One connection, with the limits that uvicorn's own has not."""

    transport: asyncio.Transport

    def __init__(self, register: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._register, self._limits = register, register.limits
        self.key = ""
        self.ended = False
        """Whether it is being closed, and what comes is thrown away."""
        self._since = self._checked = self.loop.time()
        self._body: int | None = None
        """Bytes of a body that is not complete; ``None`` between bodies."""
        self._steps = self._silent = 0
        self._blocked_since: float | None = None

    @property
    def busy(self) -> bool:
        """Whether a request has come whose response is not complete."""
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, or refuse it."""
        super().connection_made(transport)
        if self._register.admit(self):
            return
        if len(self._register) > self._limits.total + RESERVED_FILES // 4:
            self.ended = True
            self.transport.abort()
        else:
            self._end(b"503 Service Unavailable", b"this server has too many connections: try again")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._register.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it is too much for one head."""
        if self.ended:
            return
        before = self._steps
        super().data_received(data)
        # What the parser keeps without a step forward is one unfinished head, trailer or chunk extension.
        self._silent = self._silent + len(data) if self._steps == before else 0
        if self._silent > self._limits.head_bytes:
            text = b"the head of a request ends at %d bytes" % self._limits.head_bytes
            self._end(b"431 Request Header Fields Too Large", text)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._steps += 1

    def on_headers_complete(self) -> None:
        """A body begins, and its time."""
        self._steps += 1
        self._body, self._since = 0, self.loop.time()
        if len(self.pipeline) >= self._limits.pipelined:
            self.ended = True
            self.transport.abort()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._steps += 1
        self._body = (self._body or 0) + len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._steps += 1
        self._body = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The time of the next head begins."""
        self._since = self.loop.time()
        super().on_response_complete()

    def resume_writing(self) -> None:
        """What was full is nearly empty: the client takes up its response."""
        self._blocked_since = None
        super().resume_writing()

    def check(self, now: float) -> None:
        """End the connection if it takes too long; called every ``sweep`` seconds."""
        passed, self._checked = now - self._checked, now
        self._since += max(0.0, passed - 2 * self._limits.sweep)  # it was the server that was held up
        if not self.transport.get_write_buffer_size():
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = now
        if self._blocked_since is not None and now - self._blocked_since > self._limits.write:
            # Reset it, or the kernel keeps what it has of the response for a client that never takes it.
            if (own := self.transport.get_extra_info("socket")) is not None:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        elif self.ended:
            if now - self._since > 2 * self._limits.sweep:
                self.transport.abort()
        elif self.flow.read_paused or (self.busy and self.cycle.waiting_for_100_continue):
            self._since += passed  # it is the server that does not read
        elif self._body is not None:
            allowed = self._limits.body + self._body / self._limits.rate if self.busy else self._limits.linger
            if now - self._since > allowed:
                self._end(b"408 Request Timeout", b"the body of the request came too slowly")
        elif not self.busy and now - self._since > self._limits.head + (self._limits.keep_alive if self.cycle else 0):
            self.ended = True
            self.transport.close()  # without a word: nothing was asked

    def _end(self, status: bytes, text: bytes) -> None:
        """Say why, unless a response was begun, and close; what is still sent is thrown away for a moment.

        Closing at once would reset a connection of which something was not read, and lose the words.
        """
        self.ended, self._since = True, self.loop.time()
        if self.transport.is_closing():
            return
        if not self.busy or not self.cycle.response_started:
            head = b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nretry-after: 5\r\n"
            self.transport.write(head % (status, len(text)) + b"connection: close\r\n\r\n" + text)
        if self.busy:
            self.transport.close()  # the application is told at once
        elif self.transport.can_write_eof():
            self.transport.write_eof()


def configured(
    app: Any, host: str, port: int, limits: ConnectionLimits, proxies: Sequence[str] = (), **options: Any
) -> Config:
    """uvicorn's configuration of a server with these limits, ``proxies`` being those that are trusted."""
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
    """Raise the limit on open files as far as it goes; how many of ``wanted`` connections it leaves room for."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + RESERVED_FILES
    if soft < most and soft != resource.RLIM_INFINITY:
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, max(soft - RESERVED_FILES, soft // 2))
