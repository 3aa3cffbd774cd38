"""New files and folders are for whom they are meant, whatever the umask of whoever starts evalsvc."""

import asyncio
import os

import numpy as np
import pytest

from evalsvc.api.server.checkpoint_files import take_in
from evalsvc.core.files.file_modes import make_folder
from evalsvc.core.settings import Settings
from evalsvc.queue import dbos_engine
from evalsvc.store.artifacts import open_artifacts


@pytest.fixture(params=[0o000, 0o022, 0o277])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


async def sent():
    yield b"weights"


@pytest.mark.parametrize(("setting", "file", "folder"), [("private", 0o600, 0o700), ("group", 0o660, 0o2770)])
def test_artifacts_uploads_and_the_queue_are_for_their_user_or_group(home, monkeypatch, umask, setting, file, folder):
    monkeypatch.setenv("EVALSVC_FILE_MODE", setting)
    settings = Settings()
    artifacts = open_artifacts(settings)
    artifacts.write_arrays("samples/1f/0-5.safetensors", {"x": np.zeros(3)})
    with artifacts.matrix_writer("features/a.npy", 2) as writer:
        writer.append(np.zeros((2, 3)))
    with artifacts.lock("locks/b"):
        pass
    asyncio.run(take_in("step_1.pt", sent(), settings.uploads, 100))
    dbos_engine._system_database(settings.database)
    found = [home, *home.rglob("*")]
    assert len([path for path in found if path.is_file()]) >= 5
    wrong = {path: oct(path.stat().st_mode) for path in found if path.stat().st_mode & 0o7777 not in (file, folder)}
    assert wrong == {}
    assert {path.is_dir() for path in found if path.stat().st_mode & 0o7777 == folder} == {True}


def test_a_folder_that_exists_keeps_its_mode_and_those_that_are_missing_are_made(tmp_path):
    tmp_path.chmod(0o755)
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")]
    assert modes == [0o755, 0o700, 0o700]
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")
