"""Artifacts of evaluations in a folder or an object store: written atomically, read through memory maps.

Files carry a digest (:mod:`evalsvc.core.files.checksums`), which is verified when they are opened
(:mod:`evalsvc.core.files.verification`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Mapping
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
from evalsvc.core.files.atomic_files import atomic_write, put
from evalsvc.core.files.checksums import sign
from evalsvc.core.files.file_modes import make_folder, modes
from evalsvc.core.files.matrices import BLANK, DIGEST, MatrixWriter, map_matrix, read_header
from evalsvc.core.files.verification import Known, Verified, name_of, open_verified, readable
from evalsvc.core.settings import Settings

Arrays = Mapping[str, np.ndarray]


def open_artifacts(settings: Settings) -> Artifacts:
    """The configured store: a folder under ``home`` unless ``EVALSVC_ARTIFACTS`` is a path or a URL."""
    where = settings.artifacts.removeprefix("file://")
    if "://" in where:
        from evalsvc.store.object_store import ObjectStore  # a subclass of Artifacts

        return ObjectStore(where, settings.home / "cache")
    return Artifacts(Path(where) if where else settings.home / "artifacts")


class Artifacts:
    """A folder of files named by keys such as ``samples/1f3a/0-500.safetensors``."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    # The five primitive operations of a store; all other methods use them.

    def exists(self, key: str) -> bool:
        """Whether a file exists under this key. Existing files are complete."""
        return (self.root / key).is_file()

    def local(self, key: str) -> Path:
        """Path of this key's file on this machine, for reading and mapping only."""
        return self.root / key

    @contextmanager
    def placing(self, key: str) -> Iterator[Path]:
        """Yield a path to write; at the end, sign the file and place it under its key, atomically and durably."""
        target = self.root / key
        with atomic_write(target) as temporary:
            yield temporary
            self._signed_since  # noqa: B018  (from here on)
            if not sign(temporary, key):
                # First, because a file without a digest could be adopted as intact.
                verification.keep_digest(temporary, key, target)
            put(temporary, target)

    def remove(self, key: str) -> None:
        """Delete a file or a folder, if it exists."""
        path = self.root / key
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
            verification.digest_beside(path).unlink(missing_ok=True)

    def sizes(self, key: str) -> dict[str, int]:
        """Keys and sizes in bytes of all files below a key."""
        files = sorted(file for file in (self.root / key).rglob("[!.]*") if file.is_file())
        return {file.relative_to(self.root).as_posix(): file.stat().st_size for file in files}

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """A lock between the processes of this machine, and of all machines that share the folder."""
        path = self.root / key
        lock = FileLock(path, mode=modes().file)
        try:
            make_folder(path.parent)
            lock.acquire()
        except OSError as error:
            raise StorageError(
                f"cannot lock {path} ({error.strerror}): give this user write access to the artifacts"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def write_bytes(self, key: str, content: bytes) -> None:
        """Write a file atomically and durably."""
        with self.placing(key) as path:
            path.write_bytes(content)

    def write_arrays(self, key: str, arrays: Arrays, metadata: Mapping[str, str] | None = None) -> None:
        """Write arrays to one safetensors file, atomically."""
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        self.write_bytes(key, save(contiguous, {**(metadata or {}), DIGEST: BLANK}))

    @contextmanager
    def matrix_writer(self, key: str, rows: int) -> Iterator[MatrixWriter]:
        """Stream blocks of rows into one ``.npy`` file that appears atomically; one block at a time is in memory."""
        with self.placing(key) as path, path.open("wb") as file:
            writer = MatrixWriter(file, rows)
            yield writer
            writer.finish()

    # Reading. Each of these raises MissingError for missing and DamagedError for damaged files.

    def read_arrays(self, key: str, known: Known | None = None) -> dict[str, np.ndarray]:
        """All arrays of a file from :meth:`write_arrays`; one without a digest must have a ``known`` sha256."""
        with self._tensors(key, known) as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118

    def read_some(self, key: str, names: Collection[str]) -> dict[str, np.ndarray]:
        """Those of the named arrays that a file from :meth:`write_arrays` has; the others are not read."""
        with self._tensors(key) as tensors:
            return {name: tensors.get_tensor(name) for name in names if name in set(tensors.keys())}

    def read_metadata(self, key: str) -> dict[str, str]:
        """String metadata of a file written by :meth:`write_arrays`."""
        with self._tensors(key) as tensors:
            return {name: text for name, text in (tensors.metadata() or {}).items() if name != DIGEST}

    def read_matrix(self, key: str, maps: list[Verified] | None = None) -> np.ndarray:
        """Map a file written by :meth:`matrix_writer`. The entry added to ``maps`` can later detect changes."""
        with self._opened(key) as (file, seen), readable(key):
            if maps is not None:
                maps.append(seen)
            return map_matrix(file)

    def read_bytes(self, key: str) -> bytes:
        """Content of a file written by :meth:`write_bytes`."""
        with self._opened(key) as (file, _), readable(key):
            return file.read()

    def is_sound(self, key: str, rows: int | None = None) -> bool:
        """Whether an intact file exists under this key. Damage is logged once.

        A matrix with another number of ``rows`` counts as damaged.
        """
        if not self.exists(key):
            return False
        try:
            with self._opened(key) as (file, _):
                if rows is not None and (held := read_header(file).shape[0]) != rows:
                    raise DamagedError(key, f"it contains {held} rows instead of {rows}")
        except DamagedError as error:
            verification.report(error)
            return False
        return True

    def checked(self, key: str) -> Path:
        """Path of this key's verified file on this machine."""
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
        """Time (ns, by the disk's clock) since which all files are signed; those without a digest must be older."""
        path = self.root / ".signed-since"
        with suppress(OSError, ValueError):
            return int(path.read_text())
        since = time.time_ns()
        with suppress(StorageError), atomic_write(path) as temporary:  # the folder may be read-only
            temporary.touch()
            since = temporary.stat().st_mtime_ns
            temporary.write_text(str(since))
            put(temporary, path)
        return since

    def _refetched(self, key: str, path: Path) -> Path | None:
        """Another copy of the damaged file at ``path``, if that is only a copy."""
        return None
