"""Opening the database: SQLite tuned for many readers and one writer, Postgres as it comes, schema checked."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, Select, create_engine, inspect, select, text
from sqlalchemy.exc import DatabaseError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from evalsvc.core.deadline import uninterrupted
from evalsvc.core.errors import StorageError, first_line
from evalsvc.store.faults import forbids_writing, is_lasting, sentence
from evalsvc.store.sqlite import ReadOnlyFile, create, damage_of, file_of, set_aside_damage, writing
from evalsvc.store.tables import DatabaseTime
from evalsvc.store.urls import parse_url, shown

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)

HEAD = "0016"
"""The newest migration; a test holds it equal to the newest file in ``alembic/versions``."""


AFTER_COMMIT = "evalsvc_after_commit"
"""Key in the ``info`` of a session that writes: what is called once its transaction is stored, and only then."""


class Database:
    """An open database whose schema is at :data:`HEAD`.

    An embedded (SQLite) database and an empty one are brought there at once; a shared one that is behind asks for
    ``evalsvc db upgrade``; one that is ahead of this code is refused. ``patience`` is how many seconds a server or a
    lock is waited for. A deadline waits for the end of a transaction: one that struck between two steps would leave a
    lock or a half-read answer in the pool, and whatever has to be recorded then would meet it.
    """

    def __init__(self, url: str, *, upgrade: bool = False, patience: float = 30) -> None:
        self.read_only = ""
        """Why nothing can be written; empty where it can."""
        self._url, self._patience = parse_url(url), patience
        self._where = f"database {shown(self._url)}"
        self._apart: ReadOnlyFile | None = None
        try:
            self._open(_engine(url, patience))
            self._bring_to_head(upgrade)
        except DatabaseError as error:
            file = file_of(self._url)
            if file is None or not forbids_writing(error) or not file.is_file():
                raise StorageError(sentence(error, self._where)) from None
            self._open_for_reading(ReadOnlyFile(file, patience), first_line(error.orig or error))

    def _open(self, engine: Engine) -> None:
        self.engine = engine
        self._write = sessionmaker(engine, expire_on_commit=False)
        self._read = sessionmaker(engine.execution_options(evalsvc_read=True), expire_on_commit=False)

    def _open_for_reading(self, file: ReadOnlyFile, reason: str) -> None:
        self.engine.dispose()
        self._open(file.engine(self._url))
        self._apart, self.read_only = file, file.why(reason)
        try:
            with self.engine.begin() as connection:
                found = _revision(connection)
        except DatabaseError as error:
            raise StorageError(sentence(error, self._where)) from None
        self._check_known(found)
        if found != HEAD:
            raise StorageError(
                f"{self._where} is at revision {found or 'none'} of {HEAD} and cannot be upgraded here "
                f"({self.read_only}): run 'evalsvc db upgrade' where it can be written, or set EVALSVC_HOME to a copy"
            )

    def _open_for_writing(self) -> None:
        """Try it again: since the database was opened, its disk may have been mounted for writing or have got room."""
        engine = _engine(self._url.render_as_string(hide_password=False), self._patience)
        try:
            with engine.begin():
                pass
        except DatabaseError:
            engine.dispose()
            raise StorageError(
                f"{self._where} can only be read here ({self.read_only}): run this where you may write it and its disk "
                "has room, or set EVALSVC_HOME to another place"
            ) from None
        self._open(engine)
        self._apart, self.read_only = None, ""

    def _check_log(self, found: str | None) -> None:
        """Say that SQLite left out damaged changes; a database without tables may be one that lost them all."""
        file = file_of(self._url) if self.engine.dialect.name == "sqlite" else None
        if file is None:
            return
        lost = set_aside_damage(file)
        kept = damage_of(file)
        told = f"{self._where} lacks changes that {kept.name} beside it holds in damaged form: restore a backup"
        if found != HEAD and kept.exists():
            raise StorageError(f"{told}, or delete {kept.name} to go on without them")
        if lost:
            log.warning("%s if anything is missing", told)

    def _check_known(self, found: str | None) -> None:
        if found is not None and found not in known_revisions():
            raise StorageError(
                f"{self._where} is at revision {found}, which this evalsvc does not know: upgrade evalsvc"
            )

    def _bring_to_head(self, upgrade: bool) -> None:
        with self._unenforced() as connection:
            if self.engine.dialect.name == "postgresql":
                # Two processes that meet an empty database create its tables one after the other.
                connection.execute(text("SELECT pg_advisory_xact_lock(20261122)"))
            found = _revision(connection)
            self._check_log(found)
            if found == HEAD:
                return
            self._check_known(found)
            if found is not None and not upgrade and self.engine.dialect.name != "sqlite":
                raise StorageError(f"{self._where} is at revision {found} of {HEAD}: run 'evalsvc db upgrade'")
            _upgrade(connection)
            _record_upgrade(connection, found)

    @contextmanager
    def _unenforced(self) -> Iterator[Connection]:
        """One transaction in which SQLite lets a migration build tables anew that others point at."""
        with self.engine.connect() as connection:
            sqlite = connection.connection.driver_connection if self.engine.dialect.name == "sqlite" else None
            if sqlite:
                sqlite.execute("PRAGMA foreign_keys=OFF")  # inside of a transaction it would do nothing
            try:
                with connection.begin():
                    yield connection
            finally:
                if sqlite:
                    sqlite.execute("PRAGMA foreign_keys=ON")

    def revision(self) -> str | None:
        """The revision of its tables now: another process may have upgraded them since this one opened it."""
        with self.read() as session:
            return _revision(session.connection())

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that may write: committed at the end, rolled back by an exception.

        Raises:
            StorageError: the file is damaged, or cannot be written.
        """
        if self.read_only:
            self._open_for_writing()
        with self._told(), uninterrupted(), self._write.begin() as session:
            yield session
        for tell in session.info.pop(AFTER_COMMIT, ()):
            tell()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent view; it neither waits for writers nor holds them up.

        Raises:
            StorageError: the file is damaged, or was written while it could only be read by itself.
        """
        with self._told(), uninterrupted(), self._read.begin() as session:
            yield session
            if self._apart:
                self._apart.check(session.connection().connection.driver_connection)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            if is_lasting(error):
                raise StorageError(sentence(error, self._where)) from error
            raise


def ensured(session: Session, query: Select[T], new: T) -> T:
    """The one row of a query, ``new`` where there is none; of several who add it at once all find the same."""
    row = session.scalar(query)
    if row is None:
        with suppress(IntegrityError), session.begin_nested():
            session.add(new)
        row = session.scalars(query).one()
    return row


def patiently(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call until the database answers: it may be restarted, or its disk full, while a worker holds a result in hand."""
    pause = 0.5
    while True:
        try:
            return call(*args, **kwargs)
        except (OperationalError, InterfaceError) as error:
            log.warning("waiting for the database: %s", first_line(error.orig or error))
        time.sleep(pause)
        pause = min(2 * pause, 10)


def clock(session: Session) -> datetime:
    """The time by the database's clock: the one that all machines share."""
    return session.scalars(select(DatabaseTime())).one().astimezone(UTC)


def database_time(database: Database) -> datetime:
    """The same, asked for by itself."""
    with database.read() as session:
        return clock(session)


def known_revisions() -> set[str]:
    """Revisions that this code can migrate from or to."""
    return {path.name.split("_")[0] for path in (migrations() / "versions").glob("[0-9]*.py")}


def migrations() -> Path:
    """The migration scripts: the repository's folder, else the copy inside the installed package."""
    package = Path(__file__).parents[1]
    repository = package.parent / "alembic"
    return repository if (repository / "env.py").is_file() else package / "_migrations"


def _upgrade(connection: Connection) -> None:
    # Imported here: it takes a third of a second, and a database is seldom behind.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _record_upgrade(connection: Connection, found: str | None) -> None:
    from evalsvc.store.audit import Action, record  # it needs this module

    with Session(bind=connection, join_transaction_mode="rollback_only") as session:
        record(session, Action.DATABASE_UPGRADE, "database", {"revision": HEAD, "was": found})
        session.flush()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _engine(url: str, patience: float = 30) -> Engine:
    parsed = parse_url(url)
    if parsed.get_backend_name() == "postgresql":
        seconds = max(1, round(patience))
        try:
            return create_engine(
                parsed,
                pool_pre_ping=True,
                connect_args={"connect_timeout": seconds, "tcp_user_timeout": 1000 * seconds},
            )
        except ImportError:  # psycopg, or the C library that it loads
            raise StorageError("Postgres needs the driver psycopg: pip install 'evalsvc[postgres]'") from None
    if file := file_of(parsed):
        create(file)
    return writing(parsed, patience)
