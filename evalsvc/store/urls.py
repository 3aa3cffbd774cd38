"""Database URLs: as people write them, and as messages may show them."""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from evalsvc.core.errors import InputError

_POSTGRES = ("postgres", "postgresql")
_SHOWN = ("sslmode", "target_session_attrs", "application_name")
"""Parameters of a URL that hold no secret. libpq takes passwords there too."""


def parse_url(text: str) -> URL:
    """The URL with the driver that evalsvc uses: psycopg for ``postgres://`` and ``postgresql+ANY://``, else pysqlite.

    Raises:
        InputError: malformed, or of another database. The message shows no part of the URL, which may hold a password.
    """
    try:
        url = make_url(text.strip())
        backend = url.get_backend_name().lower()
    except (ArgumentError, ValueError):
        raise InputError(
            "EVALSVC_DATABASE_URL is not a database URL: write postgresql://user:password@host/name or sqlite:///file"
        ) from None
    if "@" in (url.host or ""):
        raise InputError("EVALSVC_DATABASE_URL holds more than one @: write %40 for an @ in the password")
    if backend in _POSTGRES:
        # libpq takes the password as a parameter too; in its own place everybody hides it, the engine of the queue too.
        password = url.query.get("password")
        if isinstance(password, str):
            url = url.difference_update_query(["password"]).set(password=password)
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise InputError(f"evalsvc stores in SQLite or Postgres, not in {backend}: change EVALSVC_DATABASE_URL")
    return url.set(drivername="sqlite")


def shown(url: URL) -> str:
    """The URL as far as it is no secret."""
    return url.set(query={key: value for key, value in url.query.items() if key in _SHOWN}).render_as_string()
