"""Artifacts as objects below a URL, in any ``fsspec`` store with atomic uploads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from evalsvc.core.errors import InputError, MissingError, StorageError, first_line
from evalsvc.core.files import verification
from evalsvc.core.files.atomic_files import atomic_write
from evalsvc.core.files.checksums import sign
from evalsvc.store.artifacts import Artifacts

SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Stores in which an upload appears atomically. File servers (sftp, smb) do not guarantee this."""


class ObjectStore(Artifacts):
    """Objects cached in a folder of this machine, so that arrays can be memory-mapped.

    A cached file is named by its key and by the object's version: an object that was replaced is fetched again. The
    cache may be deleted at any time.
    """

    def __init__(self, url: str, cache: Path) -> None:
        super().__init__(cache)
        self._url = url.rstrip("/")
        if url.partition("://")[0] not in SCHEMES:
            raise InputError(
                f"EVALSVC_ARTIFACTS={url} is not supported: use the path of a folder, or the URL of an "
                f"object store ({', '.join(SCHEMES)}), where uploads are atomic"
            )
        try:
            # Without a cache of listings, so that objects from other machines appear at once.
            self._objects, self._base = fsspec.url_to_fs(self._url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise InputError(f"EVALSVC_ARTIFACTS={url} cannot be used here: {error}") from None

    def exists(self, key: str) -> bool:
        """Whether an object exists under this key."""
        return self._version(key) is not None

    def local(self, key: str) -> Path:
        """The object's copy on this machine, fetched if it is missing or outdated."""
        version = self._version(key)
        if version is None:
            raise MissingError(key)
        path = self.root / key / version
        if not path.is_file():
            with atomic_write(path) as temporary:
                with self._reached(key):
                    self._objects.get_file(self._path(key), str(temporary))
                _keep(temporary, path)
        return path

    @contextmanager
    def placing(self, key: str) -> Iterator[Path]:
        """Yield a path to write, which is uploaded at the end and kept as this machine's copy."""
        with atomic_write(self.root / key / "new") as temporary:
            yield temporary
            sign(temporary, key)
            with self._reached(key):
                self._objects.put_file(str(temporary), self._path(key))
            # If another machine has written in between, its version names our copy: objects under one key are
            # equivalent.
            if version := self._version(key):
                _keep(temporary, self.root / key / version)

    def remove(self, key: str) -> None:
        """Delete an object or all objects below a key, here and in the store."""
        super().remove(key)
        with self._reached(key):
            try:
                self._objects.rm(self._path(key), recursive=True)
            except FileNotFoundError:
                return

    def sizes(self, key: str) -> dict[str, int]:
        """Keys and sizes in bytes of all objects below a key."""
        with self._reached(key):
            objects = self._objects.find(self._path(key), detail=True)
        base = self._base.strip("/") + "/"
        return {path.strip("/").removeprefix(base): int(info["size"]) for path, info in sorted(objects.items())}

    @property
    def _signed_since(self) -> int:  # copies are always new, and objects are not modified in place
        return sys.maxsize

    def _refetched(self, key: str, path: Path) -> Path | None:
        """Fetch the object again, because only this machine's copy may be damaged."""
        path.unlink(missing_ok=True)
        verification.digest_beside(path).unlink(missing_ok=True)
        return self.local(key)

    def _path(self, key: str) -> str:
        return f"{self._base}/{key}"

    def _version(self, key: str) -> str | None:
        with self._reached(key):
            try:
                return str(self._objects.ukey(self._path(key)))
            except FileNotFoundError:
                return None

    @contextmanager
    def _reached(self, key: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each store raises errors of its own
            reason = first_line(error)
            raise StorageError(
                "cannot read or write the object store: check EVALSVC_ARTIFACTS and its credentials, and run the "
                "same command again to resume",
                detail=f"{self._url}/{key}: {reason}",
            ) from error


def _keep(temporary: Path, path: Path) -> None:
    """Replace older copies; a copy that is memory-mapped stays readable."""
    temporary.replace(path)
    for other in path.parent.iterdir():
        if other != path and not other.name.startswith("."):
            other.unlink(missing_ok=True)
            verification.digest_beside(other).unlink(missing_ok=True)
