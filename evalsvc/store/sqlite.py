"""SQLite files: created atomically and private, opened for writing, or read-only if they cannot be written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import uuid
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event

from evalsvc.core.errors import StorageError, first_line
from evalsvc.core.files.atomic_files import TEMPORARY, atomic_write, put
from evalsvc.core.files.file_modes import make_file, make_folder
from evalsvc.store.faults import parse_json

Stamp = tuple[int, int, int, bool]
ROOM = 2**16
"""Bytes that SQLite needs to share a file with writers."""


def file_of(url: URL) -> Path | None:
    """The file of a SQLite URL, links resolved; ``None`` for databases in memory and ``file:`` URLs."""
    name = url.database
    return None if not name or name == ":memory:" or name.startswith("file:") else Path(os.path.realpath(name))


def create(path: Path) -> None:
    """Create an empty database if there is none; of concurrent processes, one succeeds.

    It appears with its first page, so that an empty file always indicates lost content.

    Raises:
        StorageError: the file is empty, only companion files of it remain, or it cannot be created.
    """
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}")
    try:
        if not _is_missing(path):
            return
        make_folder(path.parent)
        make_file(temporary)
        connection = sqlite3.connect(temporary)
        try:
            connection.execute("PRAGMA journal_mode=WAL")  # writes the first page
        finally:
            connection.close()
        _place(temporary, path)
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise StorageError(
            f"database {path} cannot be created ({reason}): set EVALSVC_HOME or EVALSVC_DATABASE_URL to a "
            "writable place with free space"
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_missing(path: Path) -> bool:
    remains = [path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")]
    remains = [file for file in remains if file.exists() and file.stat().st_size]
    if path.exists():  # checked after the others: another process may have created all of them in between
        if path.stat().st_size:
            return False
        raise StorageError(
            f"database {path} is empty (0 bytes), so its content was lost: restore a backup, or delete the "
            "file to start a new one"
        )
    if remains:
        raise StorageError(
            f"database {path} is missing, but {remains[0].name} beside it contains changes of it: restore the "
            f"database, or delete {remains[0].name} to start a new one"
        )
    return True


def _place(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            temporary.replace(path)


def damage_of(path: Path) -> Path:
    """Path for a copy of a database's log that SQLite could not read completely."""
    return path.with_name(f"{path.name}-wal.damaged")


def set_aside_damage(path: Path) -> bool:
    """Copy a log with transactions after a damaged frame, where SQLite stops reading; return whether there are any.

    Call it inside of a write transaction without concurrent writers: the next change overwrites them. The log
    (``-wal``) has a header of 32 bytes, and frames of 24 bytes and a page each: valid frames have its salts, and the
    last frame of a transaction has a size.
    """
    try:
        log = path.with_name(f"{path.name}-wal").read_bytes()
    except OSError:
        return False
    counting = _frames_that_count(path) if len(log) > 32 else None
    if counting is None:
        return False
    page = struct.unpack_from(">I", log, 8)[0]
    if _is_whole(log[:32]):
        heads = (log[at : at + 16] for at in range(32 + counting * (page + 24), len(log) - page - 23, page + 24))
        ends = [head[4:8] != bytes(4) for head in heads if head[8:] == log[16:24]]
        if not any(ends[:-1]):  # a killed process leaves its last frame incomplete
            return False
    if not damage_of(path).exists():
        with atomic_write(damage_of(path)) as temporary:
            temporary.write_bytes(log)
            put(temporary, damage_of(path))
    return True


def _frames_that_count(path: Path) -> int | None:
    """Number of log frames that SQLite reads; ``None`` during a checkpoint, or if checkpoints are impossible.

    SQLite itself reports it. Its index (``-shm``) contains it too, but closing that file, or the database, outside of
    SQLite drops all locks of this process on it, so that other processes would take themselves for the only user.
    """
    try:
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            busy, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error:
        return None
    return None if busy or frames < 0 else int(frames)


def _is_whole(header: bytes) -> bool:
    """Whether the header of a log matches its checksum."""
    magic = struct.unpack_from(">I", header)[0]
    words = struct.unpack("<6I" if magic == 0x377F0682 else ">6I", header[:24])
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return magic in (0x377F0682, 0x377F0683) and (first, second) == struct.unpack(">2I", header[24:])


def writing(url: URL, patience: float) -> Engine:
    """An engine for many readers and one writer at a time, which waits ``patience`` seconds for another."""
    engine = create_engine(url, connect_args={"timeout": patience}, json_deserializer=parse_json)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # SQLAlchemy, not the driver, starts transactions: see begin().
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # Writers take the lock at once: upgrading a read transaction in WAL mode fails regardless of the timeout.
        reading = connection.get_execution_options().get("evalsvc_read")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


class ReadOnlyFile:
    """A database whose folder is not writable.

    SQLite can read it beside writers only if the shared companion files exist. Without them there are no writers: the
    file is read without locks, and :meth:`check` detects later changes.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self._path, self._patience = path, patience
        self._wal = path.with_name(f"{path.name}-wal")

    def engine(self, url: URL) -> Engine:
        """An engine that reopens the file for every transaction, since its companion files may change in between."""
        engine = create_engine(url, creator=self.connect, poolclass=NullPool, json_deserializer=parse_json)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        return engine

    def why(self, reason: str) -> str:
        """The reason why the database is read-only, as far as it is visible, else the driver's reason."""
        for path in (self._path.parent, self._path, self._wal):
            if path.exists() and not os.access(path, os.W_OK):
                return f"{path} is not writable"
        if shutil.disk_usage(self._path.parent).free < ROOM:
            return f"the disk of {self._path.parent} is full"
        return reason

    def check(self, connection: object) -> None:
        """Raise if the file was modified while this connection read it without locks.

        Raises:
            StorageError: it was modified, so that the results may mix two states.
        """
        if isinstance(connection, _Connection) and connection.stamp not in (None, self._stamp()):
            raise StorageError(f"database {self._path} was changed while it was read: run the same command again")

    def _stamp(self) -> Stamp:
        """A stamp that changes with every write."""
        stat = self._path.stat()
        return stat.st_ino, stat.st_size, stat.st_mtime_ns, self._has_changes_apart()

    def _has_changes_apart(self) -> bool:
        return self._wal.exists() and self._wal.stat().st_size > 0

    def connect(self) -> sqlite3.Connection:
        """Open a read-only connection, beside writers if the shared companion files exist.

        Raises:
            StorageError: the log contains changes that cannot be read here.
        """
        address = f"{self._path.as_uri()}?mode=ro"
        with suppress(sqlite3.OperationalError):
            return self._opened(address)
        stamp = self._stamp()
        if self._has_changes_apart():
            raise StorageError(
                f"database {self._path} cannot be read here: {self._wal.name} contains changes of it, and its "
                "folder is not writable; copy both files to a writable folder and set EVALSVC_DATABASE_URL"
            )
        connection = self._opened(f"{address}&immutable=1")
        connection.stamp = stamp
        return connection

    def _opened(self, address: str) -> _Connection:
        connection = sqlite3.connect(
            address,
            uri=True,
            timeout=self._patience,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error:
            connection.close()
            raise
        return connection


class _Connection(sqlite3.Connection):
    stamp: Stamp | None = None
    """Stamp of the file when it was opened without locks."""
