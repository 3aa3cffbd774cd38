"""Files are what was written: every other content is damage, and files of older versions are adopted."""

import json
import logging
import os
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from evalsvc.core.errors import DamagedError, MissingError
from evalsvc.core.files import verification
from evalsvc.core.settings import Settings
from evalsvc.store.artifacts import Artifacts, open_artifacts

ROWS = np.arange(600, dtype=np.float32).reshape(60, 10)
MATRIX, ARRAYS, BYTES = "a/m.npy", "a/x.safetensors", "a/answers.json"
READ = {
    MATRIX: lambda artifacts: artifacts.read_matrix(MATRIX).copy(),
    ARRAYS: lambda artifacts: artifacts.read_arrays(ARRAYS)["x"],
    BYTES: lambda artifacts: np.frombuffer(artifacts.read_bytes(BYTES), np.uint8),
}


@pytest.fixture
def artifacts(tmp_path):
    return filled(Artifacts(tmp_path / "files"))


def filled(artifacts, key=""):
    """One file of each kind, under keys of its own."""
    with artifacts.matrix_writer(MATRIX + key, len(ROWS)) as writer:
        writer.append(ROWS[:17])
        writer.append(ROWS[17:])
    artifacts.write_arrays(ARRAYS + key, {"x": ROWS}, {"kind": "exact"})
    artifacts.write_bytes(BYTES + key, b'[["first","tie"]]')
    return artifacts


@pytest.fixture
def old(tmp_path):
    """The same files as an older version left them."""
    folder = tmp_path / "old" / "a"
    folder.mkdir(parents=True)
    np.save(folder / "m.npy", ROWS)
    save_file({"x": ROWS}, folder / "x.safetensors", {"kind": "exact"})
    (folder / "answers.json").write_bytes(b'[["first","tie"]]')
    return Artifacts(tmp_path / "old")


def overwrite(path, offset, content):
    """Change bytes in place, as a disk or a careless program does."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


@pytest.mark.parametrize("key", READ)
def test_no_byte_of_a_file_changes_unseen(artifacts, key):
    path = artifacts.local(key)
    content = path.read_bytes()
    want = READ[key](artifacts)
    for offset in {*range(min(400, len(content))), *range(0, len(content), 37), len(content) - 1}:
        overwrite(path, offset, bytes([content[offset] ^ 0x40]))
        assert not artifacts.is_sound(key), offset
        with pytest.raises(DamagedError, match=f"artifact {key} is damaged .*--rerun"):
            READ[key](artifacts)
        overwrite(path, offset, content[offset : offset + 1])
    assert np.array_equal(READ[key](artifacts), want)


@pytest.mark.parametrize("key", READ)
def test_no_length_but_its_own_is_whole(artifacts, key):
    path = artifacts.local(key)
    content = path.read_bytes()
    for length in (0, 1, 7, 9, 100, 191, 192, 200, len(content) // 2, len(content) - 1):
        if length < len(content):
            path.write_bytes(content[:length])
            assert not artifacts.is_sound(key), length
    path.write_bytes(content + b"\0")
    assert not artifacts.is_sound(key)
    path.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))  # as of a disk that lost power
    assert not artifacts.is_sound(key)


@pytest.mark.parametrize("key", [MATRIX, ARRAYS])
def test_a_file_in_the_place_of_another_is_damage(artifacts, key):
    """Though it is whole: another model's shard has the shape of this one's."""
    folder, name = key.split("/")
    other = f"{folder}/other-{name}"
    with artifacts.placing(other) as path:
        path.write_bytes(artifacts.local(key).read_bytes())
    assert artifacts.is_sound(other)
    artifacts.local(key).write_bytes(artifacts.local(other).read_bytes())
    assert not artifacts.is_sound(key)


@pytest.mark.parametrize("key", [MATRIX, ARRAYS])
def test_a_file_that_another_program_wrote_is_damage(artifacts, key):
    path = artifacts.local(key)
    if key == MATRIX:
        np.save(path, ROWS + 1)
    else:
        save_file({"x": ROWS + 1}, path, {"kind": "exact"})
    with pytest.raises(DamagedError, match="has no digest"):
        READ[key](artifacts)


def test_other_programs_read_what_is_written(artifacts):
    assert np.array_equal(np.load(artifacts.local(MATRIX)), ROWS)
    assert np.array_equal(load_file(artifacts.local(ARRAYS))["x"], ROWS)
    assert json.loads(artifacts.local(BYTES).read_bytes()) == [["first", "tie"]]


@pytest.mark.parametrize("key", READ)
def test_a_file_of_an_older_version_is_adopted_and_marked_and_damaged_no_more_unseen(old, key):
    want = READ[key](old)
    beside = verification.digest_beside(old.local(key))
    assert json.loads(beside.read_bytes()).keys() == {"evalsvc.sha256", "adopted"}
    overwrite(old.local(key), old.local(key).stat().st_size - 3, b"x")
    with pytest.raises(DamagedError, match="does not match its digest"):
        READ[key](old)
    filled(old)
    assert np.array_equal(READ[key](old), want)


@pytest.mark.parametrize(
    ("content", "reason"), [(ROWS + np.inf, "not finite"), (ROWS * np.nan, "not finite"), (None, "truncated|cannot")]
)
def test_what_cannot_have_been_written_is_not_adopted(old, content, reason):
    for key in (MATRIX, ARRAYS):
        path = old.local(key)
        if content is None:
            os.truncate(path, path.stat().st_size - 4)
        else:
            np.save(path, content) if key == MATRIX else save_file({"x": content}, path)
        with pytest.raises(DamagedError, match=reason):
            READ[key](old)


def test_a_kept_digest_that_is_damaged_stands_for_damage(old):
    old.read_arrays(ARRAYS)
    for content in (b"", b"{}", b"[]", b'{"evalsvc.sha256": "0"}'):
        verification.digest_beside(old.local(ARRAYS)).write_bytes(content)
        os.utime(old.local(ARRAYS))
        assert not old.is_sound(ARRAYS)


def test_a_kill_between_a_file_and_its_digest_leaves_nothing_wrong(artifacts, monkeypatch):
    """Arrays have no such moment. Of other files the digest comes first, under which the old file is damaged."""
    monkeypatch.setattr("evalsvc.store.artifacts.put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    for key in (MATRIX, ARRAYS, BYTES):
        with pytest.raises(KeyboardInterrupt), artifacts.placing(key) as path:
            path.write_bytes(artifacts.local(key).read_bytes()[::-1])
    assert [artifacts.is_sound(key) for key in READ] == [True, True, False]


def test_a_store_that_can_only_be_read_is_read(old, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Read-only file system")

    monkeypatch.setattr("evalsvc.core.files.verification.put", refuse)
    monkeypatch.setattr("evalsvc.store.artifacts.put", refuse)
    assert all(np.array_equal(read(old), read(old)) for read in READ.values())
    assert [path.name for path in old.root.rglob(".*")] == []


def test_a_file_is_read_for_its_digest_once_a_process(artifacts, monkeypatch):
    for key in READ:
        os.utime(artifacts.local(key), (1, 1))  # its time of change is what it is
    monkeypatch.setattr("evalsvc.core.files.checksums._TICK", 0)
    digests = []
    whole = verification.digest_of
    monkeypatch.setattr(verification, "digest_of", lambda file, key: digests.append(key) or whole(file, key))
    for _ in range(3):
        for read in READ.values():
            read(Artifacts(artifacts.root))
    assert sorted(digests) == sorted(READ)


def test_damage_with_the_same_size_and_time_is_seen(artifacts):
    path = artifacts.local(MATRIX)
    stat = path.stat()
    assert artifacts.is_sound(MATRIX)
    overwrite(path, 1000, b"\xff")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not artifacts.is_sound(MATRIX)


def test_what_changes_under_a_map_is_seen_and_what_is_replaced_is_not_lost(artifacts):
    maps = []
    mapped = artifacts.read_matrix(MATRIX, maps)
    maps[0].require_unchanged()
    filled(artifacts)
    maps[0].require_unchanged()
    assert np.array_equal(mapped, ROWS)
    artifacts.read_matrix(MATRIX, maps)
    overwrite(artifacts.local(MATRIX), 1000, b"\xff")
    with pytest.raises(DamagedError, match="overwritten while it was read"):
        maps[1].require_unchanged()


def test_what_a_process_remembers_is_bounded(artifacts, monkeypatch):
    monkeypatch.setattr(verification, "REMEMBERED", 2)
    monkeypatch.setattr(verification, "_verified", {})
    for _ in range(2):
        assert all(artifacts.is_sound(key) for key in READ)
    assert [key for _, key in verification._verified] == [ARRAYS, BYTES]


def test_damage_is_told_once_and_absence_never(artifacts, caplog, monkeypatch):
    monkeypatch.setattr(verification, "_reported", set())
    overwrite(artifacts.local(MATRIX), 1000, b"\xff")
    artifacts.remove(BYTES)
    with caplog.at_level(logging.WARNING):
        assert not any(artifacts.is_sound(key) for key in (MATRIX, MATRIX, BYTES))
    (record,) = caplog.records
    assert record.getMessage() == "artifact a/m.npy is damaged (its content does not match its digest) and is not used"
    with pytest.raises(MissingError, match=r"a/answers\.json is missing"):
        artifacts.read_bytes(BYTES)
    assert not verification.digest_beside(artifacts.local(BYTES)).exists()


def test_a_matrix_of_other_rows_than_it_should_have_is_damage(artifacts):
    assert artifacts.is_sound(MATRIX, 60)
    assert not artifacts.is_sound(MATRIX, 61)


def test_a_digest_takes_no_memory(tmp_path):
    artifacts = Artifacts(tmp_path)
    with artifacts.matrix_writer("m.npy", 5000) as writer:
        writer.append(np.zeros((5000, 500), np.float32))
    tracemalloc.start()
    artifacts.read_matrix("m.npy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 << 20 < 10_000_000


def test_a_damaged_copy_is_fetched_again_and_a_damaged_object_is_damage(tmp_path):
    artifacts = filled(open_artifacts(Settings(home=tmp_path, artifacts=f"memory://{tmp_path.name}/x")))
    for key, read in READ.items():
        want = read(artifacts)
        overwrite(artifacts.local(key), 30, b"\xff\xff")
        if key != BYTES:
            assert np.array_equal(read(artifacts), want)
    with artifacts._objects.open(artifacts._path(ARRAYS), "wb") as file:
        file.write(b"\xff" * 1000)
    assert not artifacts.is_sound(ARRAYS)
    filled(artifacts)
    assert artifacts.is_sound(ARRAYS)
