"""Online backup of an embedded database."""

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
    """Write one consistent snapshot of a SQLite database to a new file, without blocking writers.

    The file appears atomically and is readable by its owner only.

    Raises:
        InputError: the database is on a server, which has its own backup program, or ``target`` exists.
        StorageError: the copy cannot be written, or is damaged.
    """
    if database.engine.dialect.name != "sqlite":
        raise InputError("evalsvc backs up SQLite: use pg_dump for Postgres, as docs/guides/operations.md says")
    if target.exists():
        raise InputError(f"{target} exists: choose another name, or remove it first")
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(sqlite3.connect(temporary)) as copy:
            # Over a separate connection: the pool's connection is inside of a transaction.
            file = ReadOnlyFile(_file(database), patience=30)
            with closing(file.connect()) as source:
                source.backup(copy)
                file.check(source)
            # A copy of a WAL-mode file would need its companion files; this one does not.
            copy.execute("PRAGMA journal_mode=DELETE")
            if (damage := copy.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise StorageError(f"the database is damaged ({damage}): restore an earlier backup")
        put(temporary, target)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"cannot write the backup {target} ({first_line(error)}): choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def _file(database: Database) -> Path:
    return Path(database.engine.url.database or "").resolve()
