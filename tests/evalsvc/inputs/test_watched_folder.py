import os

import pytest

from evalsvc.core.errors import InputError
from evalsvc.inputs.watched_folder import WatchedFolder


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watched(tmp_path, clock):
    return WatchedFolder(tmp_path, "step_*", settle=10, clock=clock)


def look(watched, clock, after=10):
    clock.now += after
    return [path.name for path in watched.whole()]


def test_a_file_that_grows_is_not_whole_until_it_stands_still(watched, clock, tmp_path):
    for size in (1, 2, 3):
        (tmp_path / "step_1.pt").write_bytes(b"x" * size)
        assert look(watched, clock) == []
    assert look(watched, clock, 9) == []
    assert look(watched, clock, 1) == ["step_1.pt"]


def test_a_preallocated_file_is_not_whole_while_it_is_filled(watched, clock, tmp_path):
    path = tmp_path / "step_1.pt"
    path.write_bytes(b"\0" * 10)
    assert look(watched, clock) == []
    path.write_bytes(b"x" * 10)
    os.utime(path, ns=(1, 1))
    assert look(watched, clock) == []
    assert look(watched, clock) == ["step_1.pt"]


def test_a_folder_grows_with_its_files(watched, clock, tmp_path):
    folder = tmp_path / "step_1"
    (folder / "shards").mkdir(parents=True)
    assert look(watched, clock) == look(watched, clock) == []
    for name in ("a", "b"):
        (folder / "shards" / name).write_bytes(b"x")
        assert look(watched, clock) == []
    assert look(watched, clock) == ["step_1"]


def test_with_a_marker_nothing_else_counts(tmp_path, clock):
    watched = WatchedFolder(tmp_path, "step_*", settle=10, marker=".done", clock=clock)
    (tmp_path / "step_1.pt").write_bytes(b"x")
    (tmp_path / "step_2").mkdir()
    (tmp_path / "step_2" / "model.pt").write_bytes(b"x")
    assert look(watched, clock) == look(watched, clock, 1000) == []
    (tmp_path / "step_1.pt.done").touch()
    (tmp_path / "step_2" / ".done").touch()
    assert look(watched, clock, 0) == ["step_1.pt", "step_2"]


def test_what_was_taken_is_named_again_only_when_it_changes(watched, clock, tmp_path):
    path = tmp_path / "step_1.pt"
    path.write_bytes(b"x")
    look(watched, clock)
    assert look(watched, clock) == ["step_1.pt"]
    watched.take(path)
    assert look(watched, clock) == look(watched, clock) == watched.waiting == []
    path.write_bytes(b"other")
    assert look(watched, clock) == []
    assert look(watched, clock) == ["step_1.pt"]


@pytest.mark.parametrize("name", [".step_1.pt", "step_1.pt.tmp", "step_1.pt.part", "step_1.pt.incomplete", "other.pt"])
def test_what_writers_have_not_finished_is_no_checkpoint(watched, clock, tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    look(watched, clock)
    assert look(watched, clock) == watched.waiting == []


def test_steps_come_in_any_order_and_go_as_they_like(watched, clock, tmp_path):
    for name in ("step_10.pt", "step_9.pt"):
        (tmp_path / name).write_bytes(b"x")
        look(watched, clock)
    (tmp_path / "step_7.pt").write_bytes(b"x")
    look(watched, clock)
    assert look(watched, clock) == ["step_7.pt", "step_9.pt", "step_10.pt"]
    (tmp_path / "step_9.pt").unlink()
    (tmp_path / "step_1.pt").write_bytes(b"x")
    look(watched, clock)
    assert look(watched, clock) == ["step_1.pt", "step_7.pt", "step_10.pt"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InputError, match="it is not a folder"):
        WatchedFolder(tmp_path / "nowhere", "*", 1)


@pytest.mark.parametrize("pattern", ["", "/tmp/*.pt", "**x"])
def test_a_pattern_that_is_none_is_refused(tmp_path, pattern):
    with pytest.raises(InputError, match="invalid pattern"):
        WatchedFolder(tmp_path, pattern, settle=10)


def test_a_sharded_folder_is_not_whole_before_its_metadata(watched, clock, tmp_path):
    folder = tmp_path / "step_1" / "pytorch_model_fsdp_0"
    folder.mkdir(parents=True)
    (folder / "__0_0.distcp").write_bytes(b"x")
    assert look(watched, clock) == []
    assert watched.pending == watched.waiting == [tmp_path / "step_1"]
    assert [look(watched, clock) for _ in range(2)] == [[], []]
    assert watched.pending == []  # however long it is watched
    (folder / ".metadata").write_bytes(b"x")
    assert [look(watched, clock) for _ in range(2)] == [[], ["step_1"]]
