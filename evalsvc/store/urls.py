"""Database URLs: parsing, and display without secrets."""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from evalsvc.core.errors import InputError

_POSTGRES = ("postgres", "postgresql")
_SHOWN = ("sslmode", "target_session_attrs", "application_name")
"""Parameters of a URL without secrets. libpq accepts passwords among the others."""


def parse_url(text: str) -> URL:
    """The URL with the driver that evalsvc uses: psycopg for ``postgres://`` and ``postgresql+ANY://``, else pysqlite.

    Raises:
        InputError: the URL is malformed or of an unsupported database. The message does not quote the URL, which may
            contain a password.
    """
    try:
        url = make_url(text.strip())
        backend = url.get_backend_name().lower()
    except (ArgumentError, ValueError):
        raise InputError(
            "invalid EVALSVC_DATABASE_URL: use postgresql://user:password@host/name or sqlite:///file"
        ) from None
    if "@" in (url.host or ""):
        raise InputError("EVALSVC_DATABASE_URL contains more than one @: write %40 for an @ in the password")
    if backend in _POSTGRES:
        # libpq also accepts the password as a parameter; in its standard place all libraries redact it.
        password = url.query.get("password")
        if isinstance(password, str):
            url = url.difference_update_query(["password"]).set(password=password)
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise InputError(f"evalsvc supports SQLite and Postgres, not {backend}: change EVALSVC_DATABASE_URL")
    return url.set(drivername="sqlite")


def shown(url: URL) -> str:
    """The URL without secrets."""
    return url.set(query={key: value for key, value in url.query.items() if key in _SHOWN}).render_as_string()
