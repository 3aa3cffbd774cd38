import errno
import os
import re
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest
import s3fs

from evalsvc.core.errors import InputError, StorageError
from evalsvc.core.settings import Settings
from evalsvc.store.artifacts import Artifacts, open_artifacts


@pytest.fixture(params=["folder", "memory", "s3"])
def url(request, tmp_path):
    """Where files go: a folder, and stores in a process's memory and behind a real S3 protocol."""
    if request.param == "folder":
        return (tmp_path / "files").as_uri()
    bucket = request.getfixturevalue("bucket") if request.param == "s3" else "memory://"
    return f"{bucket}/{uuid.uuid4().hex}"


@pytest.fixture
def artifacts(url, tmp_path):
    return open_artifacts(Settings(home=tmp_path / "here", artifacts=url))


@pytest.fixture
def elsewhere(url, tmp_path):
    """The same store as another machine sees it."""
    return open_artifacts(Settings(home=tmp_path / "there", artifacts=url))


def files(artifacts):
    """Names of what was written, digests and half-written files included."""
    found = (path.name for path in artifacts.root.rglob("*") if path.is_file())
    return sorted(name for name in found if name != ".signed-since")


def interrupt(_written):
    raise KeyboardInterrupt


def test_arrays_come_back_as_they_were(artifacts):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1], "b": np.array([1, 2], np.uint8)}
    artifacts.write_arrays("x/y.safetensors", arrays, {"kind": "exact"})
    found = artifacts.read_arrays("x/y.safetensors")
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert artifacts.read_metadata("x/y.safetensors") == {"kind": "exact"}


def test_a_full_disk_leaves_nothing_behind_and_says_how_to_go_on(tmp_path, monkeypatch):
    artifacts = Artifacts(tmp_path)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device.*run the same command again"):
        artifacts.write_bytes("x/y", b"content")
    assert files(artifacts) == []


def test_a_store_that_cannot_be_written_cannot_be_locked_and_says_so(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"cannot lock .*x/\.lock .*: give this user write access"):
        Artifacts(tmp_path / "file").lock("x/.lock").__enter__()


def test_an_interrupted_write_keeps_the_old_file(artifacts, elsewhere):
    artifacts.write_bytes("x", b"old")
    before = files(artifacts)
    with pytest.raises(KeyboardInterrupt), artifacts.placing("x") as path:
        interrupt(path.write_bytes(b"ne"))
    assert artifacts.local("x").read_bytes() == elsewhere.local("x").read_bytes() == b"old"
    assert files(artifacts) == before


def test_a_matrix_is_streamed_and_mapped(artifacts):
    blocks = [np.full((3, 2), i, np.float32) for i in range(4)]
    with artifacts.matrix_writer("m.npy", 12) as writer:
        for block in blocks:
            writer.append(block)
    matrix = artifacts.read_matrix("m.npy")
    assert np.array_equal(matrix, np.concatenate(blocks))
    assert isinstance(matrix.base, np.memmap)


def test_a_matrix_is_not_mapped_while_it_is_written(tmp_path):
    """In a map a full disk is a bus error, which ends the process without a word."""
    with Artifacts(tmp_path).matrix_writer("m.npy", 2) as writer:
        writer.append(np.zeros((1, 2000)))
        assert str(tmp_path) not in Path("/proc/self/maps").read_text()
        writer.append(np.zeros((1, 2000)))


def test_a_matrix_has_rows_of_one_kind(artifacts):
    for other in (np.zeros((1, 3), np.float32), np.zeros((1, 2))):
        with (
            pytest.raises(StorageError, match="rows of different shapes"),
            artifacts.matrix_writer("m.npy", 2) as writer,
        ):
            list(map(writer.append, (np.zeros((1, 2), np.float32), other)))
        assert files(artifacts) == []


def test_a_matrix_with_too_few_rows_never_appears(artifacts, elsewhere):
    with pytest.raises(StorageError, match="3 rows, expected 12"), artifacts.matrix_writer("m.npy", 12) as writer:
        writer.append(np.zeros((3, 2)))
    assert files(artifacts) == []
    assert not elsewhere.exists("m.npy")


def test_a_damaged_file_is_named(artifacts):
    artifacts.write_bytes("x.safetensors", b"garbage")
    with pytest.raises(StorageError, match=r"x\.safetensors.* cannot be read"):
        artifacts.read_arrays("x.safetensors")
    artifacts.write_bytes("x.npy", b"\x93NUMPY\x01\x00 and no more")
    for key in ("x.npy", "gone.npy"):
        with pytest.raises(StorageError, match=key):
            artifacts.read_matrix(key)


def test_another_machine_reads_what_was_written_here(artifacts, elsewhere):
    assert not elsewhere.exists("x/y.safetensors")
    with pytest.raises(StorageError, match=r"x/y\.safetensors"):
        elsewhere.read_arrays("x/y.safetensors")
    artifacts.write_arrays("x/y.safetensors", {"a": np.arange(3)})
    assert elsewhere.exists("x/y.safetensors")
    assert elsewhere.read_arrays("x/y.safetensors")["a"].tolist() == [0, 1, 2]


def test_what_was_written_again_elsewhere_is_read_anew_and_old_maps_stay_readable(artifacts, elsewhere):
    def write(store, value):
        with store.matrix_writer("m.npy", 2) as writer:
            writer.append(np.full((2, 3), value))

    write(artifacts, 1.0)
    mapped = artifacts.read_matrix("m.npy")
    write(elsewhere, 2.0)
    assert artifacts.read_matrix("m.npy").tolist() == elsewhere.read_matrix("m.npy").tolist() == [[2.0] * 3] * 2
    assert mapped.tolist() == [[1.0] * 3] * 2
    assert len(files(artifacts)) == 1


def test_a_removed_folder_is_gone_everywhere(artifacts, elsewhere):
    for name in ("f/a", "f/b", "g"):
        artifacts.write_bytes(name, b"content")
    assert elsewhere.local("f/a").read_bytes() == b"content"
    elsewhere.remove("f")
    elsewhere.remove("f")
    assert [artifacts.exists(name) for name in ("f/a", "f/b", "g")] == [False, False, True]


def test_files_below_a_key_are_listed_with_their_sizes(artifacts, elsewhere):
    artifacts.write_bytes("a/b/one", b"12345")
    artifacts.write_bytes("a/two", b"1")
    artifacts.write_bytes("ab/three", b"")
    with artifacts.lock("a/.lock"):
        assert elsewhere.sizes("a") == {"a/b/one": 5, "a/two": 1}
    assert elsewhere.sizes("none") == {}


@pytest.mark.parametrize("url", ["memory", "s3"], indirect=True)
def test_a_folder_of_cached_copies_may_be_deleted(artifacts):
    artifacts.write_bytes("x", b"content")
    artifacts.local("x").unlink()
    assert artifacts.local("x").read_bytes() == b"content"


@pytest.mark.parametrize("url", ["folder", "s3"], indirect=True)  # the memory store is not made for threads
def test_many_readers_at_once_each_see_a_whole_file(artifacts, elsewhere):
    with artifacts.matrix_writer("m.npy", 1000) as writer:
        writer.append(np.ones((1000, 500)))
    sums = []
    readers = [threading.Thread(target=lambda: sums.append(elsewhere.read_matrix("m.npy").sum())) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert sums == [500_000.0] * 8
    assert len(files(elsewhere)) == 1


def test_a_missing_bucket_is_named(bucket, tmp_path):
    missing = open_artifacts(Settings(home=tmp_path, artifacts=f"{bucket}-of-nobody/x"))
    with pytest.raises(StorageError, match="cannot read or write the object store: .*EVALSVC_ARTIFACTS") as caught:
        missing.write_bytes("key", b"content")
    assert re.fullmatch(r"s3://.*-of-nobody/x/key: .*bucket does not exist.*", caught.value.detail)
    assert files(missing) == []


def test_a_store_that_gives_no_answer_is_not_taken_for_an_empty_one(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with pytest.raises(StorageError) as caught:
        open_artifacts(Settings(home=tmp_path, artifacts=bucket)).exists("x")
    assert "Could not connect" in caught.value.detail
    assert "127.0.0.1" not in str(caught.value)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("url", ["sftp://host/x", "https://host/x", "nonsense://x"])
def test_a_store_without_whole_writes_is_refused(url, tmp_path):
    with pytest.raises(InputError, match="use the path of a folder"):
        open_artifacts(Settings(home=tmp_path, artifacts=url))


def test_a_store_whose_package_is_missing_says_which(tmp_path):
    with pytest.raises(InputError, match=r"gs://bucket/x cannot be used here: .*gcsfs"):
        open_artifacts(Settings(home=tmp_path, artifacts="gs://bucket/x"))


def test_where_no_folder_can_be_made_the_error_names_the_file_that_could_not_be_written(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(StorageError, match=r"cannot write .*taken/a/b"):
        Artifacts(tmp_path / "taken").write_bytes("a/b", b"content")
