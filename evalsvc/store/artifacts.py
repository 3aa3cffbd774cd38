"""Files that evaluations leave: in a folder or in an object store, written whole or not at all, read by memory map.

What is read is what was written: files carry a digest (:mod:`evalsvc.core.files.checksums`), which is checked when they
are opened (:mod:`evalsvc.core.files.verification`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from safetensors import safe_open
from safetensors.numpy import save

from evalsvc.core.errors import DamagedError, StorageError
from evalsvc.core.files import verification
from evalsvc.core.files.atomic_files import put, written_whole
from evalsvc.core.files.checksums import sign
from evalsvc.core.files.file_modes import make_folder, modes
from evalsvc.core.files.matrices import BLANK, DIGEST, MatrixWriter, map_matrix, read_header
from evalsvc.core.files.verification import Known, Verified, name_of, open_verified, readable
from evalsvc.core.settings import Settings

Arrays = Mapping[str, np.ndarray]


def open_artifacts(settings: Settings) -> Artifacts:
    """The store that the settings name: a folder under ``home`` unless ``EVALSVC_ARTIFACTS`` is a path or a URL."""
    where = settings.artifacts.removeprefix("file://")
    if "://" in where:
        from evalsvc.store.object_store import ObjectStore  # a kind of Artifacts itself

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
        """A path to write. At the end the file stands under its key, signed, whole and durable; after an error nothing
        does.
        """
        target = self.root / key
        with written_whole(target) as temporary:
            yield temporary
            self._signed_since  # noqa: B018  (from here on)
            if not sign(temporary, key):
                # First: a file that appears without its digest could be taken for sound.
                verification.keep_digest(temporary, key, target)
            put(temporary, target)

    def remove(self, key: str) -> None:
        """Delete a file or a folder, if it is there."""
        path = self.root / key
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
            verification.digest_beside(path).unlink(missing_ok=True)

    def sizes(self, key: str) -> dict[str, int]:
        """Keys of all files below a key, with their bytes."""
        files = sorted(file for file in (self.root / key).rglob("[!.]*") if file.is_file())
        return {file.relative_to(self.root).as_posix(): file.stat().st_size for file in files}

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """A lock between the processes of this machine (and of all machines that share the folder)."""
        path = self.root / key
        lock = FileLock(path, mode=modes().file)
        try:
            make_folder(path.parent)
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
        self.write_bytes(key, save(contiguous, {**(metadata or {}), DIGEST: BLANK}))

    @contextmanager
    def matrix_writer(self, key: str, rows: int) -> Iterator[MatrixWriter]:
        """Stream blocks of rows into one ``.npy`` file that appears whole; memory holds one block at a time."""
        with self.placing(key) as path, path.open("wb") as file:
            writer = MatrixWriter(file, rows)
            yield writer
            writer.finish()

    # Reading. Each of these raises MissingError, and DamagedError for what is not what was written.

    def read_arrays(self, key: str, known: Known | None = None) -> dict[str, np.ndarray]:
        """All arrays of a file that :meth:`write_arrays` wrote; one without a digest must have a ``known`` sha256."""
        with self._tensors(key, known) as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118

    def read_metadata(self, key: str) -> dict[str, str]:
        """The string metadata of a file that :meth:`write_arrays` wrote."""
        with self._tensors(key) as tensors:
            return {name: text for name, text in (tensors.metadata() or {}).items() if name != DIGEST}

    def read_matrix(self, key: str, maps: list[Verified] | None = None) -> np.ndarray:
        """Map a file that :meth:`matrix_writer` wrote. What is added to ``maps`` tells later whether it has changed."""
        with self._opened(key) as (file, seen), readable(key):
            if maps is not None:
                maps.append(seen)
            return map_matrix(file)

    def read_bytes(self, key: str) -> bytes:
        """What :meth:`write_bytes` wrote."""
        with self._opened(key) as (file, _), readable(key):
            return file.read()

    def is_sound(self, key: str, rows: int | None = None) -> bool:
        """Whether there is a file under this key that is what was written. Damage is told in the log, once.

        A matrix of other than so many ``rows`` is damaged too.
        """
        if not self.exists(key):
            return False
        try:
            with self._opened(key) as (file, _):
                if rows is not None and (held := read_header(file).shape[0]) != rows:
                    raise DamagedError(key, f"it holds {held} rows instead of {rows}")
        except DamagedError as error:
            verification.report(error)
            return False
        return True

    def checked(self, key: str) -> Path:
        """The file of this key on this machine, which is what was written."""
        with self._opened(key) as (_, seen):
            return seen.path

    @contextmanager
    def _tensors(self, key: str, known: Known | None = None) -> Iterator[Any]:
        with (
            self._opened(key, known) as (file, _),
            readable(key),
            safe_open(name_of(file), framework="numpy") as tensors,
        ):
            yield tensors

    @contextmanager
    def _opened(self, key: str, known: Known | None = None) -> Iterator[tuple[BufferedIOBase, Verified]]:
        path = self.local(key)
        try:
            file, seen = open_verified(path, key, self._signed_since, known)
        except DamagedError:
            other = self._refetched(key, path)
            if other is None:
                raise
            file, seen = open_verified(other, key, self._signed_since, known)
        with file:
            yield file, seen

    @cached_property
    def _signed_since(self) -> int:
        """When (in ns, by the clock of the disk) a version that signs files came to this folder: no later file without
        a digest is taken for one of before.
        """
        path = self.root / ".signed-since"
        with suppress(OSError, ValueError):
            return int(path.read_text())
        since = time.time_ns()
        with suppress(StorageError), written_whole(path) as temporary:  # a folder may be for reading only
            temporary.touch()
            since = temporary.stat().st_mtime_ns
            temporary.write_text(str(since))
            put(temporary, path)
        return since

    def _refetched(self, key: str, path: Path) -> Path | None:
        """Another copy of what is damaged at ``path``, where this is only a copy."""
        return None
