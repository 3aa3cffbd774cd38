"""Files under the home folder: written whole or not at all, read by memory map."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from evalsvc.errors import StorageError

Arrays = Mapping[str, np.ndarray]


class Artifacts:
    """A folder of files named by keys such as ``samples/1f3a/0-500.safetensors``."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def path(self, key: str) -> Path:
        """Where the file of this key is, or would be."""
        return self.root / key

    def remove(self, key: str) -> None:
        """Delete a file or a folder, if it is there."""
        path = self.path(key)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def write_bytes(self, key: str, content: bytes) -> Path:
        """Write a file atomically and durably: temporary file, fsync, rename, fsync of the folder."""
        target = self.path(key)
        with _named_error(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = _beside(target)
            try:
                with temporary.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)
        return target

    def write_arrays(self, key: str, arrays: Arrays, metadata: Mapping[str, str] | None = None) -> Path:
        """Write arrays as one safetensors file, atomically."""
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        return self.write_bytes(key, save(contiguous, dict(metadata or {})))

    def read_arrays(self, key: str) -> dict[str, np.ndarray]:
        """All arrays of a file that :meth:`write_arrays` wrote."""
        path = self.path(key)
        try:
            with safe_open(path, framework="numpy") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise StorageError(f"{path} cannot be read ({error}): delete it and run the command again") from None

    def read_metadata(self, key: str) -> dict[str, str]:
        """The string metadata of a file that :meth:`write_arrays` wrote."""
        with safe_open(self.path(key), framework="numpy") as file:
            return dict(file.metadata() or {})

    @contextmanager
    def matrix_writer(self, key: str, rows: int) -> Iterator[MatrixWriter]:
        """Stream blocks of rows into one ``.npy`` file that appears whole; memory holds one block at a time."""
        target = self.path(key)
        with _named_error(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            writer = MatrixWriter(_beside(target), rows)
            try:
                yield writer
                writer.finish()
                writer.path.replace(target)
            except BaseException:
                writer.path.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)

    def read_matrix(self, key: str) -> np.ndarray:
        """Map a file that :meth:`matrix_writer` wrote."""
        return np.asarray(np.load(self.path(key), mmap_mode="r", allow_pickle=False))


class MatrixWriter:
    """An ``.npy`` file under a temporary name, filled from the top."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path, self._rows, self._filled = path, rows, 0
        self._matrix: np.memmap | None = None

    def append(self, block: np.ndarray) -> None:
        """The next rows."""
        if self._matrix is None:
            shape = (self._rows, *block.shape[1:])
            self._matrix = np.lib.format.open_memmap(self.path, mode="w+", dtype=block.dtype, shape=shape)
        self._matrix[self._filled : self._filled + len(block)] = block
        self._filled += len(block)

    def finish(self) -> None:
        """Everything to the disk; too few rows are an error."""
        if self._matrix is None or self._filled != self._rows:
            raise StorageError(f"{self.path} would hold {self._filled} rows where {self._rows} are due")
        self._matrix.flush()


@contextmanager
def _named_error(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{target} could not be written ({error.strerror}): nothing half-written was left; "
            "make room and run the same command again to go on from here"
        ) from error


def _beside(target: Path) -> Path:
    """A name that nobody else uses, on the same file system, so that a rename puts it in place at once."""
    return target.with_name(f".tmp-{uuid.uuid4().hex}-{target.name}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
