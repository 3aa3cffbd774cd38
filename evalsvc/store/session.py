"""Opening of databases: SQLite tuned for many readers and one writer, or Postgres; checks the schema."""

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

HEAD = "0020"
"""The newest migration; a test compares it with ``alembic/versions``."""


AFTER_COMMIT = "evalsvc_after_commit"
"""Key in the ``info`` of a writing session: callbacks to run after the commit."""


class Database:
    """An open database whose schema is at :data:`HEAD`.

    An embedded (SQLite) or empty database is upgraded at once; an outdated shared database requires ``evalsvc db
    upgrade``; a database that is newer than this code is refused. ``patience`` is the timeout for a server or a lock in
    seconds. Deadlines are deferred to the end of a transaction: an interrupt between two steps would leave a lock or a
    partial response in the pool, which would break the transaction that records the failure.
    """

    def __init__(self, url: str, *, upgrade: bool = False, patience: float = 30) -> None:
        self.read_only = ""
        """Reason why the database is read-only; empty if it is writable."""
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
                revision = _revision(connection)
        except DatabaseError as error:
            raise StorageError(sentence(error, self._where)) from None
        self._check_known(revision)
        if revision != HEAD:
            raise StorageError(
                f"{self._where} is at revision {revision or 'none'} of {HEAD} and cannot be upgraded here "
                f"({self.read_only}): run 'evalsvc db upgrade' where it is writable, or set EVALSVC_HOME to a copy"
            )

    def _open_for_writing(self) -> None:
        """Try to open for writing again: its disk may have been remounted or freed since the database was opened."""
        engine = _engine(self._url.render_as_string(hide_password=False), self._patience)
        try:
            with engine.begin():
                pass
        except DatabaseError:
            engine.dispose()
            raise StorageError(
                f"{self._where} is read-only here ({self.read_only}): run the command where it is writable and "
                "its disk has space, or set EVALSVC_HOME to another place"
            ) from None
        self._open(engine)
        self._apart, self.read_only = None, ""

    def _check_log(self, revision: str | None) -> None:
        """Report that SQLite skipped damaged changes; a database without tables may have lost them all."""
        file = file_of(self._url) if self.engine.dialect.name == "sqlite" else None
        if file is None:
            return
        lost = set_aside_damage(file)
        kept = damage_of(file)
        warning = f"{self._where} lacks changes that are damaged in {kept.name} beside it: restore a backup"
        if revision != HEAD and kept.exists():
            raise StorageError(f"{warning}, or delete {kept.name} to continue without them")
        if lost:
            log.warning("%s if data is missing", warning)

    def _check_known(self, revision: str | None) -> None:
        if revision is not None and revision not in known_revisions():
            raise StorageError(
                f"{self._where} is at revision {revision}, which this evalsvc does not know: upgrade evalsvc"
            )

    def _bring_to_head(self, upgrade: bool) -> None:
        with self._unenforced() as connection:
            if self.engine.dialect.name == "postgresql":
                # Two processes that open an empty database create its tables one after the other.
                connection.execute(text("SELECT pg_advisory_xact_lock(20261122)"))
            revision = _revision(connection)
            self._check_log(revision)
            if revision == HEAD:
                return
            self._check_known(revision)
            if revision is not None and not upgrade and self.engine.dialect.name != "sqlite":
                raise StorageError(f"{self._where} is at revision {revision} of {HEAD}: run 'evalsvc db upgrade'")
            _upgrade(connection)
            _record_upgrade(connection, revision)

    @contextmanager
    def _unenforced(self) -> Iterator[Connection]:
        """One transaction with disabled foreign keys, in which a migration can rebuild referenced tables on SQLite."""
        with self.engine.connect() as connection:
            sqlite = connection.connection.driver_connection if self.engine.dialect.name == "sqlite" else None
            if sqlite:
                sqlite.execute("PRAGMA foreign_keys=OFF")  # it has no effect inside of a transaction
            try:
                with connection.begin():
                    yield connection
            finally:
                if sqlite:
                    sqlite.execute("PRAGMA foreign_keys=ON")

    def revision(self) -> str | None:
        """The current revision of the tables: another process may have upgraded them since they were opened."""
        with self.read() as session:
            return _revision(session.connection())

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One read-write transaction: committed at the end, rolled back by an exception.

        Raises:
            StorageError: the file is damaged, or cannot be written.
        """
        if self.read_only:
            self._open_for_writing()
        with self._explained_errors(), uninterrupted(), self._write.begin() as session:
            yield session
        for callback in session.info.pop(AFTER_COMMIT, ()):
            callback()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent snapshot, which neither waits for writers nor blocks them.

        Raises:
            StorageError: the file is damaged, or was modified while it was read without locks.
        """
        with self._explained_errors(), uninterrupted(), self._read.begin() as session:
            yield session
            if self._apart:
                self._apart.check(session.connection().connection.driver_connection)

    @contextmanager
    def _explained_errors(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            if is_lasting(error):
                raise StorageError(sentence(error, self._where)) from error
            raise


def get_or_insert(session: Session, query: Select[T], new: T) -> T:
    """The only row of a query, or ``new`` if there is none; concurrent callers all get the same row."""
    row = session.scalar(query)
    if row is None:
        with suppress(IntegrityError), session.begin_nested():
            session.add(new)
        row = session.scalars(query).one()
    return row


def retry_until_available(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call until the database responds: it may restart, or its disk may be full, before a result is stored."""
    pause = 0.5
    while True:
        try:
            return call(*args, **kwargs)
        except (OperationalError, InterfaceError) as error:
            log.warning("waiting for the database: %s", first_line(error.orig or error))
        time.sleep(pause)
        pause = min(2 * pause, 10)


def clock(session: Session) -> datetime:
    """The time by the database's clock, which all machines share."""
    return session.scalars(select(DatabaseTime())).one().astimezone(UTC)


def database_time(database: Database) -> datetime:
    """The time by the database's clock, in a transaction of its own."""
    with database.read() as session:
        return clock(session)


def known_revisions() -> set[str]:
    """Revisions that this code can migrate from or to."""
    return {path.name.split("_")[0] for path in (migrations() / "versions").glob("[0-9]*.py")}


def migrations() -> Path:
    """Folder of the migration scripts: in the repository, else in the installed package."""
    package = Path(__file__).parents[1]
    repository = package.parent / "alembic"
    return repository if (repository / "env.py").is_file() else package / "_migrations"


def _upgrade(connection: Connection) -> None:
    # Imported here, because it takes a third of a second and most databases are up to date.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _record_upgrade(connection: Connection, revision: str | None) -> None:
    from evalsvc.store.audit import Action, record  # it imports this module

    with Session(bind=connection, join_transaction_mode="rollback_only") as session:
        record(session, Action.DATABASE_UPGRADE, "database", {"revision": HEAD, "was": revision})
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
