"""Files that evaluations leave: in a folder or in an object store, written whole or not at all, read by memory map."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from evalsvc.errors import StorageError
from evalsvc.settings import Settings

Arrays = Mapping[str, np.ndarray]
TEMPORARY = ".tmp-"
"""How the names of half-written files begin."""


def open_artifacts(settings: Settings) -> Artifacts:
    """The store that the settings name: a folder under ``home`` unless ``EVALSVC_ARTIFACTS`` is a path or a URL."""
    where = settings.artifacts.removeprefix("file://")
    if "://" in where:
        from evalsvc.object_store import ObjectStore  # a kind of Artifacts itself

        return ObjectStore(where, settings.home / "cache")
    return Artifacts(Path(where) if where else settings.home / "artifacts")


class Artifacts:
    """A folder of files named by keys such as ``samples/1f3a/0-500.safetensors``."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    # Five things a store can do; everything else is made of them.

    def exists(self, key: str) -> bool:
        """Whether there is a file under this key. It is whole if there is."""
        return (self.root / key).is_file()

    def local(self, key: str) -> Path:
        """The file of this key on this machine, to be read and mapped, never changed."""
        return self.root / key

    @contextmanager
    def placing(self, key: str) -> Iterator[Path]:
        """A path to write. At the end the file stands under its key, whole and durable; after an error nothing does."""
        target = self.root / key
        with written_whole(target) as temporary:
            yield temporary
            _sync(temporary)
            temporary.replace(target)
            _sync(target.parent)

    def remove(self, key: str) -> None:
        """Delete a file or a folder, if it is there."""
        path = self.root / key
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def sizes(self, key: str) -> dict[str, int]:
        """Keys of all files below a key, with their bytes."""
        files = sorted(file for file in (self.root / key).rglob("[!.]*") if file.is_file())
        return {file.relative_to(self.root).as_posix(): file.stat().st_size for file in files}

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """A lock between the processes of this machine (and of all machines that share the folder)."""
        path = self.root / key
        lock = FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise StorageError(f"{path} cannot be locked ({error.strerror}): artifacts must be writable") from None
        try:
            yield
        finally:
            lock.release()

    def write_bytes(self, key: str, content: bytes) -> None:
        """Write a file atomically and durably."""
        with self.placing(key) as path:
            path.write_bytes(content)

    def write_arrays(self, key: str, arrays: Arrays, metadata: Mapping[str, str] | None = None) -> None:
        """Write arrays as one safetensors file, atomically."""
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        self.write_bytes(key, save(contiguous, dict(metadata or {})))

    def read_arrays(self, key: str) -> dict[str, np.ndarray]:
        """All arrays of a file that :meth:`write_arrays` wrote."""
        path = self.local(key)
        try:
            with safe_open(path, framework="numpy") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise StorageError(f"{path} cannot be read ({error}): delete it and run the command again") from None

    def read_metadata(self, key: str) -> dict[str, str]:
        """The string metadata of a file that :meth:`write_arrays` wrote."""
        with safe_open(self.local(key), framework="numpy") as file:
            return dict(file.metadata() or {})

    @contextmanager
    def matrix_writer(self, key: str, rows: int) -> Iterator[MatrixWriter]:
        """Stream blocks of rows into one ``.npy`` file that appears whole; memory holds one block at a time."""
        with self.placing(key) as path, path.open("wb") as file:
            writer = MatrixWriter(file, rows)
            yield writer
            writer.finish()

    def read_matrix(self, key: str) -> np.ndarray:
        """Map a file that :meth:`matrix_writer` wrote."""
        path = self.local(key)
        try:
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise StorageError(f"{path} cannot be read ({error}): delete it and run the command again") from None


class MatrixWriter:
    """An ``.npy`` file under a temporary name, filled from the top.

    Written and not mapped: a full disk is an error of a write, and a bus error in a map.
    """

    def __init__(self, file: BinaryIO, rows: int) -> None:
        self._file, self._rows, self._filled = file, rows, 0
        self._row: tuple[np.dtype[Any], tuple[int, ...]] | None = None

    def append(self, block: np.ndarray) -> None:
        """The next rows."""
        row = block.dtype, block.shape[1:]
        if self._row is None:
            self._row, descr = row, np.lib.format.dtype_to_descr(block.dtype)
            header = {"descr": descr, "fortran_order": False, "shape": (self._rows, *block.shape[1:])}
            np.lib.format.write_array_header_1_0(self._file, header)
        if row != self._row:
            raise StorageError(f"{self._file.name} would hold rows of {self._row} and of {row}")
        self._file.write(np.ascontiguousarray(block).data)
        self._filled += len(block)

    def finish(self) -> None:
        """Too few rows are an error."""
        if self._filled != self._rows:
            raise StorageError(f"{self._file.name} would hold {self._filled} rows where {self._rows} are due")


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A temporary name on the target's file system, so that a rename puts it in place at once; gone after an error."""
    temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        raise StorageError(
            f"{target} could not be written ({error.strerror}): nothing half-written was left; "
            "make room and run the same command again to go on from here"
        ) from error
    finally:
        with suppress(OSError):  # where nothing can be written, nothing can be removed either
            temporary.unlink()


def _sync(path: Path) -> None:
    """Everything of a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
