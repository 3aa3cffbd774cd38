"""A copy of an embedded database while others write into it."""

from __future__ import annotations

import os
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

from evalsvc.core.errors import InputError, StorageError, first_line
from evalsvc.core.files.atomic_files import put
from evalsvc.store.session import Database
from evalsvc.store.sqlite import ReadOnlyFile


def back_up(database: Database, target: Path) -> None:
    """Write one consistent moment of a SQLite database to a new file. Writers are not held up.

    The file appears whole or not at all, and only its owner may read it.

    Raises:
        InputError: the database is on a server, which brings its own program for this, or ``target`` exists.
        StorageError: the copy cannot be written, or is damaged.
    """
    if database.engine.dialect.name != "sqlite":
        raise InputError("evalsvc backs up SQLite: use pg_dump for Postgres, as docs/guides/operations.md says")
    if target.exists():
        raise InputError(f"{target} exists: give another name, or remove it first")
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(sqlite3.connect(temporary)) as copy:
            # From a connection of its own: the pool's is inside of a transaction.
            file = ReadOnlyFile(_file(database), patience=30)
            with closing(file.connect()) as source:
                source.backup(copy)
                file.check(source)
            # A copy of a WAL-mode file asks for its companion files where it is read; this one needs none.
            copy.execute("PRAGMA journal_mode=DELETE")
            if (found := copy.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise StorageError(f"the database is damaged ({found}): restore an earlier backup")
        put(temporary, target)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"the backup {target} cannot be written ({first_line(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _file(database: Database) -> Path:
    return Path(database.engine.url.database or "").resolve()
