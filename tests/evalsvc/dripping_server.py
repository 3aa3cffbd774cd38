"""A server whose answer comes byte by byte and never ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread


@contextmanager
def dripping_server() -> Iterator[str]:
    """Its address; it answers one request, until the end of the block."""
    over = Event()

    def drip() -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not over.wait(0.05):
                connection.sendall(b"x: y\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=drip, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        over.set()
