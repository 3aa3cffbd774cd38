"""SQLite files: private, whole or named as damaged, and readable where nothing can be written."""

import gc
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, OperationalError
from typer.testing import CliRunner

from evalsvc.api.server import token_store
from evalsvc.cli import main
from evalsvc.cli.main import app
from evalsvc.core.errors import InputError, StorageError
from evalsvc.core.settings import Settings
from evalsvc.store import session as store
from evalsvc.store import sqlite as files
from evalsvc.store.backup import back_up
from evalsvc.store.faults import is_lasting, sentence
from evalsvc.store.session import HEAD, Database
from evalsvc.store.tables import Model, Scope, Suite
from tests.evalsvc.gates.store import add_checkpoint, add_scores
from tests.unprivileged import unprivileged


def mode(path):
    return path.stat().st_mode & 0o7777


@pytest.fixture
def umask():
    """Set the umask; the one before comes back."""
    before = os.umask(0)
    yield os.umask
    os.umask(before)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The file of a database with scores of two checkpoints."""
    folder = tmp_path_factory.mktemp("template")
    database = Database(Settings(home=folder).database)
    with database.write() as session:
        for step in (1, 2):
            add_scores(session, add_checkpoint(session, "flow", step), {"distance": 2.5 + step})
    database.engine.dispose()
    return folder / "evalsvc.db"


@pytest.fixture
def filled(home, template):
    """A copy of it under EVALSVC_HOME."""
    home.mkdir()
    return Path(shutil.copy(template, home))


@pytest.fixture
def closed(filled):
    """The same in a folder that cannot be written by anybody whom its mode binds."""
    filled.parent.chmod(0o500)
    yield filled
    filled.parent.chmod(0o700)


def write(database, name):
    with database.write() as session:
        session.add(Model(name=name))


def names(database):
    with database.read() as session:
        return [row.name for row in session.query(Model)]


@pytest.mark.parametrize("mask", [0o000, 0o277])
@pytest.mark.parametrize(("setting", "file", "folder"), [("private", 0o600, 0o700), ("group", 0o660, 0o2770)])
def test_new_files_are_for_their_user_or_group_whatever_the_umask(
    tmp_path, monkeypatch, umask, mask, setting, file, folder
):
    monkeypatch.setenv("EVALSVC_FILE_MODE", setting)
    umask(mask)
    home = tmp_path / "a" / "home"
    database = Database(Settings(home=home).database)
    with database.write() as session:
        session.add(Model(name="m"))
    assert {path.name: mode(path) for path in home.iterdir()} == dict.fromkeys(
        ("evalsvc.db", "evalsvc.db-wal", "evalsvc.db-shm"), file
    )
    assert [mode(path) for path in (home, home.parent)] == [folder] * 2


def test_what_exists_keeps_its_mode(filled):
    filled.chmod(0o644)
    filled.parent.chmod(0o755)
    assert names(Database(Settings().database)) == ["flow"]
    assert [mode(path) for path in (filled, filled.parent)] == [0o644, 0o755]


def test_a_file_mode_that_is_none_is_an_error(home, monkeypatch):
    monkeypatch.setenv("EVALSVC_FILE_MODE", "0600")
    with pytest.raises(InputError, match="EVALSVC_FILE_MODE: Input should be 'private' or 'group', not '0600'"):
        Database(Settings().database)


def empty(path):
    path.write_bytes(b"")


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def garble(path):
    content = path.read_bytes()
    path.write_bytes(content[:4096] + random.Random(0).randbytes(len(content) - 4096))


def replace(path):
    path.write_bytes(b"id,name\n" * 1000)


def lose(path):
    path.with_name("evalsvc.db-wal").write_bytes(path.read_bytes())
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (empty, "is empty .0 bytes., so its content was lost: restore a backup, or delete the file"),
        (truncate, "is damaged .database disk image is malformed.: restore a backup"),
        (garble, "is damaged .database disk image is malformed.: restore a backup"),
        (replace, "cannot be opened, it is not a SQLite file .file is not a database.: check its path"),
        (lose, "is missing, but evalsvc.db-wal beside it contains changes of it: restore the database"),
    ],
)
def test_a_damaged_database_is_one_sentence_and_is_left_as_it_is(filled, damage, said):
    damage(filled)
    before = {path.name: path.read_bytes() for path in filled.parent.glob("*.db*")}
    result = CliRunner().invoke(app, ["leaderboard"])
    assert isinstance(result.exception, StorageError)
    with pytest.raises(StorageError, match=f"^database .*evalsvc.db {said}[^\n]*$"):
        raise result.exception
    after = {path.name: path.read_bytes() for path in filled.parent.glob("*.db*")}
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE suites SET body = '{'",
        "UPDATE suites SET body = CAST(x'c328' AS TEXT)",
        "UPDATE suites SET created_at = 'yesterday'",
        "UPDATE suites SET created_at = x'00'",
        "UPDATE alembic_version SET version_num = CAST(x'c328' AS TEXT)",
        "DROP TABLE alembic_version",
        "DROP TABLE suites",
    ],
)
def test_a_damaged_row_or_table_is_one_sentence(filled, change):
    with closing(sqlite3.connect(filled, isolation_level=None)) as connection:
        connection.execute(change)

    def look():
        with Database(Settings().database).read() as session:
            return [(row.body, row.created_at) for row in session.query(Suite)]

    with pytest.raises((StorageError, DBAPIError)) as caught:
        look()
    said = str(caught.value) if isinstance(caught.value, StorageError) else sentence(caught.value)
    assert re.search("damaged.*restore a backup", said)
    assert "\n" not in said


@pytest.mark.parametrize("seed", range(6))
def test_a_flipped_bit_is_a_sentence_wherever_it_is(filled, seed):
    """Never a traceback of the driver: whatever a reader meets in the file is said."""
    content = bytearray(filled.read_bytes())
    where = random.Random(seed).randrange(len(content))
    content[where] ^= 1 << random.Random(seed).randrange(8)
    filled.write_bytes(content)
    result = CliRunner().invoke(app, ["show", "flow@2"])
    assert isinstance(result.exception, StorageError | InputError | SystemExit | None)


@pytest.fixture
def crashed(home, tmp_path):
    """A database whose process died: all of it is in its log, 2 transactions of which name models."""
    writer = Database(Settings(home=tmp_path / "alive").database)
    write(writer, "first")
    write(writer, "second")
    home.mkdir()
    for name in ("evalsvc.db", "evalsvc.db-wal"):
        shutil.copy(tmp_path / "alive" / name, home)
    return home / "evalsvc.db"


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_change_that_a_killed_process_left_half_written_is_no_damage(crashed, caplog):
    wal = crashed.with_name("evalsvc.db-wal")
    flip(wal, wal.stat().st_size - 100)
    assert names(Database(Settings().database)) == ["first"]
    assert caplog.text == ""


def test_a_log_that_is_whole_loses_nothing_and_says_nothing(crashed, caplog):
    assert names(Database(Settings().database)) == ["first", "second"]
    assert caplog.text == ""
    assert not files.damage_of(crashed).exists()


@pytest.mark.parametrize("place", [10, 40])
def test_a_database_that_lost_all_to_a_damaged_log_is_no_new_one(crashed, place):
    wal = crashed.with_name("evalsvc.db-wal")
    flip(wal, place)
    damaged = wal.read_bytes()
    for _ in range(2):
        with pytest.raises(StorageError, match=r"lacks changes that are damaged in evalsvc.db-wal.damaged beside"):
            Database(Settings().database)
        gc.collect()
    assert files.damage_of(crashed).read_bytes() == damaged
    files.damage_of(crashed).unlink()
    assert names(Database(Settings().database)) == []


def test_a_database_that_lost_its_last_changes_to_a_damaged_log_says_so(crashed, caplog):
    wal = crashed.with_name("evalsvc.db-wal")
    flip(wal, wal.stat().st_size - 9000)
    assert names(Database(Settings().database)) == []
    assert "lacks changes that are damaged in evalsvc.db-wal.damaged beside it" in caplog.text


def test_damage_that_shows_late_is_named_by_reads_and_writes(filled):
    database = Database(Settings().database)
    database.engine.dispose()
    with closing(sqlite3.connect(filled)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'models'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with filled.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with pytest.raises(StorageError, match=r"evalsvc.db is damaged .*: restore a backup"):
        names(database)
    with pytest.raises(StorageError, match=r"evalsvc.db is damaged"):
        write(database, "n")


def test_a_full_disk_is_one_sentence(home, monkeypatch, capsys):
    database = Database(Settings().database)

    @event.listens_for(database.engine, "connect")
    def fill(connection, _record):
        connection.execute("PRAGMA max_page_count=1")

    database.engine.dispose()
    monkeypatch.setattr("evalsvc.cli.serve.Database", lambda _: database)
    monkeypatch.setattr("sys.argv", ["evalsvc", "token", "create", "x" * 200])
    monkeypatch.setattr(token_store, "_digest", lambda secret: secret * 200)
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith("(database or disk is full): free disk space and try again")


def test_a_disk_that_fills_up_before_the_first_page_names_the_place(home, monkeypatch):
    def full(_path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "make_file", full)
    with pytest.raises(
        StorageError, match=r"evalsvc.db cannot be created \(No space left on device\): set EVALSVC_HOM"
    ):
        Database(Settings().database)
    assert list(home.iterdir()) == []


READS = (
    ["leaderboard"],
    ["leaderboard", "--all", "--json"],
    ["show", "flow@2"],
    ["compare", "flow@1", "flow@2"],
    ["models"],
    ["checkpoints"],
    ["status", "--json"],
    ["reference", "list"],
    ["token", "list"],
    ["alias", "list"],
    ["gate", "history"],
    ["cache", "list"],
)


def run(command):
    result = CliRunner().invoke(app, command)
    return result.exit_code, result.stdout


def test_all_that_reads_works_where_nothing_can_be_written(filled, tmp_path, monkeypatch):
    commands = [*READS, ["export", str(tmp_path / "out.csv")]]
    expected = [run(command) for command in commands]
    assert {code for code, _ in expected} == {0}
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    with closing(sqlite3.connect(filled)) as connection:
        connection.execute("VACUUM INTO ?", [str(sealed / filled.name)])
    with closing(sqlite3.connect(sealed / filled.name)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    sealed.chmod(0o500)
    monkeypatch.setenv("EVALSVC_HOME", str(sealed))
    assert unprivileged(lambda: [run(command) for command in commands]) == expected
    assert [path.name for path in sealed.iterdir()] == [filled.name]
    sealed.chmod(0o700)


def test_a_backup_is_made_of_a_database_that_can_only_be_read(closed, tmp_path):
    target = tmp_path / "backup.db"
    unprivileged(lambda: back_up(Database(Settings().database), target))
    assert mode(target) == 0o600
    assert names(Database(f"sqlite:///{target}")) == ["flow"]


def test_what_a_writer_has_not_merged_yet_is_read_where_nothing_can_be_written(filled):
    writer = Database(Settings().database)
    with writer.write() as session:
        session.add(Model(name="new"))
    filled.parent.chmod(0o500)

    def look():
        return sorted(names(Database(Settings().database)))

    assert unprivileged(look) == ["flow", "new"]
    for path in filled.parent.iterdir():
        path.chmod(0o400)
    assert unprivileged(look) == ["flow", "new"]
    filled.parent.chmod(0o700)


def test_changes_that_cannot_be_merged_are_named_and_not_left_out(filled):
    writer = Database(Settings().database)
    with writer.write() as session:
        session.add(Model(name="new"))
    elsewhere = filled.parent.with_name("copy")
    elsewhere.mkdir()
    for name in ("evalsvc.db", "evalsvc.db-wal"):
        shutil.copy(filled.with_name(name), elsewhere)
    elsewhere.chmod(0o500)

    def look():
        with pytest.raises(StorageError) as caught:
            Database(Settings(home=elsewhere).database)
        return str(caught.value)

    assert "evalsvc.db-wal contains changes of it, and its folder is not writable; copy both files" in unprivileged(
        look
    )
    elsewhere.chmod(0o700)


def test_a_write_where_nothing_can_be_written_says_why_and_works_once_it_can(closed):
    def write():
        database = Database(Settings().database)
        with pytest.raises(StorageError, match=rf"is read-only here \({closed.parent} is not writable\)"):
            token_store.create(database, "me", [Scope.READ])
        closed.parent.chmod(0o700)
        token_store.create(database, "me", [Scope.READ])
        return database.read_only

    assert unprivileged(write) == ""


def test_a_token_is_recognized_where_nothing_can_be_written(filled):
    _, secret = token_store.create(Database(Settings().database), "me", [Scope.READ])
    filled.parent.chmod(0o500)
    found = unprivileged(lambda: token_store.recognize(Database(Settings().database), secret))
    filled.parent.chmod(0o700)
    assert found.name == "me"


def test_a_file_that_is_written_while_it_is_read_by_itself_gives_no_answer(closed):
    def torn(reader):
        with reader.read() as session:
            session.query(Model).all()
            closed.parent.chmod(0o700)
            with closing(sqlite3.connect(closed, isolation_level=None)) as writer:
                writer.execute("UPDATE models SET name = 'other'")

    def look():
        reader = Database(Settings().database)
        with pytest.raises(StorageError, match="was changed while it was read: run the same command again"):
            torn(reader)
        return names(reader)

    assert unprivileged(look) == ["other"]


def test_an_older_database_that_cannot_be_upgraded_says_where_it_can(closed, monkeypatch):
    monkeypatch.setattr(store, "HEAD", "9999")

    def look():
        with pytest.raises(StorageError) as caught:
            Database(Settings().database)
        return str(caught.value)

    assert f"is at revision {HEAD} of 9999 and cannot be upgraded here ({closed.parent} is not writable)" in (
        unprivileged(look)
    )


def test_a_database_that_is_missing_where_nothing_can_be_written_is_one_sentence(tmp_path):
    tmp_path.chmod(0o500)

    def look():
        with pytest.raises(StorageError) as caught:
            Database(Settings(home=tmp_path / "home").database)
        return str(caught.value)

    said = unprivileged(look)
    tmp_path.chmod(0o700)
    assert said.endswith(
        "evalsvc.db cannot be created (Permission denied): set EVALSVC_HOME or EVALSVC_DATABASE_URL to a "
        "writable place with free space"
    )


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL])
def test_a_file_that_others_hold_is_not_called_damaged(code):
    held = sqlite3.OperationalError("locking protocol")
    held.sqlite_errorcode = code
    error = OperationalError("BEGIN IMMEDIATE", {}, held)
    assert not is_lasting(error)
    assert sentence(error) == "the database is locked by another process (locking protocol): try again"


LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as index:
    fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)
"""


def test_a_database_that_was_opened_keeps_the_locks_by_which_others_know_of_it(tmp_path):
    """Byte 128 of the index is SQLite's "somebody is here": who can lock it alone cuts the index off beneath others."""
    database = Database(f"sqlite:///{tmp_path}/rows.db")
    with database.write() as session:
        session.add(Model(name="one"))
    again = Database(f"sqlite:///{tmp_path}/rows.db")
    with database.read() as session, again.read():
        assert session.query(Model).count() == 1
        done = subprocess.run([sys.executable, "-c", LOCK, f"{tmp_path}/rows.db-shm"], capture_output=True, text=True)
    assert "BlockingIOError" in done.stderr, "another process could take this one for gone"
