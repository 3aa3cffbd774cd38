"""A copy of the database that can be relied on."""

import sqlite3
import stat
import threading

import pytest

from evalsvc.cli import main
from evalsvc.core.errors import InputError, StorageError
from evalsvc.store.backup import back_up
from evalsvc.store.session import Database
from evalsvc.store.tables import Model


@pytest.fixture
def database(tmp_path):
    return Database(f"sqlite:///{tmp_path}/rows.db")


def test_a_backup_under_constant_writing_is_one_moment_that_opens_elsewhere(database, tmp_path):
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            with database.write() as session:  # both or none: a torn copy would hold one without the other
                session.add_all([Model(name=f"a{number}"), Model(name=f"b{number}")])
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            back_up(database, tmp_path / f"{number}.db")
    finally:
        stop.set()
        writer.join()
    for number in range(5):
        copy = Database(f"sqlite:///{tmp_path}/{number}.db")
        with copy.read() as session:
            names = {row.name for row in session.query(Model)}
        assert {name[1:] for name in names if name[0] == "a"} == {name[1:] for name in names if name[0] == "b"}
    assert stat.S_IMODE((tmp_path / "0.db").stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".*")), "nothing half-written stays"


def test_a_backup_overwrites_nothing(database, tmp_path):
    (tmp_path / "kept.db").write_text("precious")
    with pytest.raises(InputError, match=r"kept\.db exists: choose another name"):
        back_up(database, tmp_path / "kept.db")
    assert (tmp_path / "kept.db").read_text() == "precious"


def test_a_backup_of_a_damaged_database_is_refused(database, tmp_path):
    with database.write() as session:
        session.add_all([Model(name=f"{number:0200}") for number in range(200)])
    database.engine.dispose()
    file = tmp_path / "rows.db"
    with sqlite3.connect(file) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'models'").fetchone()[0]
        size = raw.execute("PRAGMA page_size").fetchone()[0]
    body = bytearray(file.read_bytes())
    body[(page - 1) * size : (page - 1) * size + 200] = b"\xff" * 200
    file.write_bytes(body)
    with pytest.raises(StorageError, match="damaged|cannot write"):
        back_up(database, tmp_path / "copy.db")
    assert not list(tmp_path.glob("*copy*"))


def test_postgres_brings_its_own(monkeypatch, capsys, postgres, tmp_path):
    monkeypatch.setenv("EVALSVC_DATABASE_URL", postgres)
    monkeypatch.setattr("sys.argv", ["evalsvc", "db", "backup", str(tmp_path / "copy.db")])
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == 2
    assert "use pg_dump" in capsys.readouterr().err
