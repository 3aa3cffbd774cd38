import errno
import os

import numpy as np
import pytest

from evalsvc.artifacts import Artifacts
from evalsvc.errors import StorageError


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(tmp_path)


def files(artifacts):
    return sorted(path.name for path in artifacts.root.rglob("*") if path.is_file())


def test_arrays_come_back_as_they_were(artifacts):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1], "b": np.array([1, 2], np.uint8)}
    artifacts.write_arrays("x/y.safetensors", arrays, {"kind": "exact"})
    found = artifacts.read_arrays("x/y.safetensors")
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert artifacts.read_metadata("x/y.safetensors") == {"kind": "exact"}


def test_a_full_disk_leaves_nothing_behind_and_says_how_to_go_on(artifacts, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device.*run the same command again"):
        artifacts.write_bytes("x/y", b"content")
    assert files(artifacts) == []


def test_an_interrupted_write_keeps_the_old_file(artifacts, monkeypatch):
    artifacts.write_bytes("x", b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        artifacts.write_bytes("x", b"new")
    assert artifacts.path("x").read_bytes() == b"old"
    assert files(artifacts) == ["x"]


def test_a_matrix_is_streamed_and_mapped(artifacts):
    blocks = [np.full((3, 2), i, np.float32) for i in range(4)]
    with artifacts.matrix_writer("m.npy", 12) as writer:
        for block in blocks:
            writer.append(block)
    matrix = artifacts.read_matrix("m.npy")
    assert np.array_equal(matrix, np.concatenate(blocks))
    assert isinstance(matrix.base, np.memmap)


def test_a_matrix_with_too_few_rows_never_appears(artifacts):
    with pytest.raises(StorageError, match="3 rows where 12 are due"), artifacts.matrix_writer("m.npy", 12) as writer:
        writer.append(np.zeros((3, 2)))
    assert files(artifacts) == []


def test_a_damaged_file_is_named(artifacts):
    artifacts.write_bytes("x.safetensors", b"garbage")
    with pytest.raises(StorageError, match=r"x\.safetensors cannot be read"):
        artifacts.read_arrays("x.safetensors")
