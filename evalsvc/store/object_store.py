"""Artifacts as objects below a URL, in any store that ``fsspec`` knows and that shows an object whole or not at all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from evalsvc.core.errors import InputError, MissingError, StorageError, first_line
from evalsvc.core.files import verification
from evalsvc.core.files.atomic_files import written_whole
from evalsvc.core.files.checksums import sign
from evalsvc.store.artifacts import Artifacts

SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Where an upload appears at once when it is complete. A file server (sftp, smb) gives no such promise."""


class ObjectStore(Artifacts):
    """Objects read through a folder of this machine, so that arrays are mapped here as well.

    A cached file is named by its key and by the version that the store gives the object: one that was written again
    elsewhere is fetched again. The folder may be deleted at any time.
    """

    def __init__(self, url: str, cache: Path) -> None:
        super().__init__(cache)
        self._url = url.rstrip("/")
        if url.partition("://")[0] not in SCHEMES:
            raise InputError(
                f"EVALSVC_ARTIFACTS={url}: artifacts live in a folder (give its path) or in an object store "
                f"({', '.join(SCHEMES)}), where nobody ever sees half a file"
            )
        try:
            # Without a cache of listings: what another machine wrote must show at once.
            self._objects, self._base = fsspec.url_to_fs(self._url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise InputError(f"EVALSVC_ARTIFACTS={url} cannot be used here: {error}") from None

    def exists(self, key: str) -> bool:
        """Whether there is an object under this key."""
        return self._version(key) is not None

    def local(self, key: str) -> Path:
        """The object's copy on this machine, fetched where it is missing or out of date."""
        version = self._version(key)
        if version is None:
            raise MissingError(key)
        path = self.root / key / version
        if not path.is_file():
            with written_whole(path) as temporary:
                with self._reached(key):
                    self._objects.get_file(self._path(key), str(temporary))
                _keep(temporary, path)
        return path

    @contextmanager
    def placing(self, key: str) -> Iterator[Path]:
        """A path to write, uploaded at the end and kept as this machine's copy; after an error there is neither."""
        with written_whole(self.root / key / "new") as temporary:
            yield temporary
            sign(temporary, key)
            with self._reached(key):
                self._objects.put_file(str(temporary), self._path(key))
            # Had another machine written in between, its version would name our copy: what stands under one key was
            # made of the same facts and serves as well.
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
        """Keys of all objects below a key, with their bytes."""
        with self._reached(key):
            found = self._objects.find(self._path(key), detail=True)
        base = self._base.strip("/") + "/"
        return {path.strip("/").removeprefix(base): int(info["size"]) for path, info in sorted(found.items())}

    @property
    def _signed_since(self) -> int:  # copies are always new, and nobody writes to an object in place
        return sys.maxsize

    def _refetched(self, key: str, path: Path) -> Path | None:
        """The object itself may be sound where this machine's copy of it is damaged."""
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
        except Exception as error:  # every store brings errors of its own
            reason = first_line(error)
            raise StorageError(
                "the object store could not be read or written: check EVALSVC_ARTIFACTS and its credentials, and run "
                "the same command again to go on from here",
                detail=f"{self._url}/{key}: {reason}",
            ) from error


def _keep(temporary: Path, path: Path) -> None:
    """Put a copy in place of older versions; one that is mapped stays readable until it is let go."""
    temporary.replace(path)
    for other in path.parent.iterdir():
        if other != path and not other.name.startswith("."):
            other.unlink(missing_ok=True)
            verification.digest_beside(other).unlink(missing_ok=True)
