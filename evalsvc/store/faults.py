"""Explanation of database errors: one sentence with the way out."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError

from evalsvc.core.errors import StorageError, first_line

_FULL = "the disk of the database is full: free disk space and try again"
_POSTGRES = {
    "53100": _FULL,
    "25006": "the database server is read-only: check EVALSVC_DATABASE_URL",
}
_CANNOT_WRITE = (
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
)
_LASTING = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY)


def sentence(error: DBAPIError, where: str = "the database") -> str:
    """Message for an error of the database at ``where``, with the way out."""
    reason = first_line(error.orig or error)
    code = _code(error)
    if code == sqlite3.SQLITE_CORRUPT:
        return f"{where} is damaged ({reason}): restore a backup, or save what can be read with 'sqlite3 FILE .recover'"
    if code == sqlite3.SQLITE_NOTADB:
        return f"{where} cannot be opened, it is not a SQLite file ({reason}): check its path, or restore a backup"
    if code == sqlite3.SQLITE_CANTOPEN:
        return f"{where} cannot be opened ({reason}): check its path, and the permissions of the file and its folder"
    if code == sqlite3.SQLITE_FULL:
        return f"{where} cannot be written ({reason}): free disk space and try again"
    if code == sqlite3.SQLITE_READONLY:
        return f"{where} cannot be written ({reason}): check the permissions of the file, its folder and its disk"
    if code == sqlite3.SQLITE_IOERR:
        return f"{where} cannot be read or written ({reason}): check the disk and its free space"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return f"{where} is locked by another process ({reason}): try again"
    if code is not None:
        return (
            f"{where} cannot be used ({reason}): it is damaged, or not an evalsvc database; restore a backup, "
            "or check its path"
        )
    if explanation := _POSTGRES.get(str(getattr(error.orig, "sqlstate", None))):
        return f"{where}: {explanation}"
    return f"{where} does not respond ({reason}): check EVALSVC_DATABASE_URL and try again"


def parse_json(text: str) -> Any:
    """Parse the value of a JSON column.

    Raises:
        StorageError: it is not valid JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise StorageError(
            f"the database is damaged (a row contains invalid JSON, {error}): restore a backup"
        ) from None


def is_lasting(error: DBAPIError) -> bool:
    """Whether retrying is useless: a SQLite file that is damaged, of another kind, or not writable."""
    return _code(error) in _LASTING


def forbids_writing(error: DBAPIError) -> bool:
    """Whether a SQLite file may be readable although it could not be opened for writing."""
    return _code(error) in _CANNOT_WRITE


def _code(error: DBAPIError) -> int | None:
    """SQLite's primary result code; ``None`` from other databases."""
    if not isinstance(error.orig, sqlite3.Error):
        return None
    # The driver's own errors about the content of a file (text that is not UTF-8) have no code.
    return getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
