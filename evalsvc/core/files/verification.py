"""Verification of artifacts against their digests, once per process and state of the file.

Arrays contain their digest; other files have it in a file beside them. Files of older versions have neither and are
adopted when they are first read: they are checked for plausibility, and their digest is recorded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedIOBase
from pathlib import Path

from safetensors import SafetensorError

from evalsvc.core.errors import DamagedError, MissingError, StorageError, first_line
from evalsvc.core.files.atomic_files import atomic_write, put
from evalsvc.core.files.checksums import Stamp, digest_of, implausible, own_digest
from evalsvc.core.files.matrices import DIGEST

Known = Callable[[], Collection[str]]
"""Looks up the sha256 of a file of an older version; called only when a file is adopted."""
log = logging.getLogger(__name__)

REMEMBERED = 20_000
"""Number of files that a process remembers as verified; a forgotten file is verified again."""
_verified: dict[tuple[str, str], Stamp] = {}
_turn = threading.Lock()
_reported: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class Verified:
    """A file that was verified in the state described by ``stamp``."""

    path: Path
    key: str
    stamp: Stamp

    def require_unchanged(self) -> None:
        """Raise if the file was modified since it was verified, because a memory map of it would have changed too.

        Raises:
            DamagedError: the file was modified.
        """
        with suppress(FileNotFoundError):  # a memory map of a removed or replaced file does not change
            if self.stamp.is_overwritten(Stamp.of(self.path.stat())):
                raise DamagedError(self.key, "it was overwritten while it was read")


def open_verified(
    path: Path, key: str, signed_since: int, known: Known | None = None
) -> tuple[BufferedIOBase, Verified]:
    """Open a file and verify it; the descriptor stays valid if the file is replaced.

    A file without a digest must match one of the ``known`` sha256, or be older than ``signed_since`` (ns).

    Raises:
        MissingError: the file does not exist.
        DamagedError: the content differs from the digest.
        StorageError: this user has no permission to read it.
    """
    if not path.is_file():
        raise MissingError(key)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise MissingError(key) from None
    except OSError as error:
        raise StorageError(
            f"cannot open {path} ({error.strerror}): give this user read access to the artifacts"
        ) from None
    try:
        stamp, before = Stamp.of(os.fstat(file.fileno())), _verified.get((str(path), key))
        if before is None or not before.covers(stamp):
            with readable(key):
                _compare(file, path, key, signed_since, known)
            _remember(path, key, stamp)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file, Verified(path, key, stamp)


def _remember(path: Path, key: str, stamp: Stamp) -> None:
    with _turn:
        _verified.pop((str(path), key), None)
        _verified[str(path), key] = stamp
        if len(_verified) > REMEMBERED:
            del _verified[next(iter(_verified))]


def report(error: DamagedError) -> None:
    """Log, once per process, that an artifact is damaged; a missing artifact is not logged."""
    if not isinstance(error, MissingError) and (error.key, error.reason) not in _reported:
        _reported.add((error.key, error.reason))
        log.warning("artifact %s is damaged (%s) and is not used", error.key, error.reason)


def keep_digest(content: Path, key: str, target: Path) -> None:
    """Write the digest for the file that will be placed at ``target``."""
    with content.open("rb") as file:
        _write_digest(file, key, target)


def digest_beside(path: Path) -> Path:
    """Path of the digest of a file that does not contain its own."""
    return path.with_name(f".{path.name}.sha256")


def name_of(file: BufferedIOBase) -> str:
    """A path to an open file, independent of its name."""
    return f"/dev/fd/{file.fileno()}"


@contextmanager
def readable(key: str) -> Iterator[None]:
    """Raise errors while reading an open file as damage."""
    try:
        yield
    except (OSError, ValueError, EOFError, SafetensorError) as error:
        raise DamagedError(key, f"it cannot be read: {first_line(error, 80)}") from None


def _compare(file: BufferedIOBase, path: Path, key: str, signed_since: int, known: Known | None) -> None:
    digest = own_digest(file, key)
    if digest is None:
        try:
            digest = json.loads(digest_beside(path).read_bytes())[DIGEST]
        except FileNotFoundError:
            _adopt(file, path, key, signed_since, known)
            return
        except (ValueError, TypeError, KeyError):
            raise DamagedError(key, "the digest beside it cannot be read") from None
    if digest_of(file, key) != digest:
        raise DamagedError(key, "its content does not match its digest")


def _adopt(file: BufferedIOBase, path: Path, key: str, signed_since: int, known: Known | None) -> None:
    """Record the digest of a file of an older version, if the file is plausible."""
    file.seek(0)
    if known and (digests := known()):
        if hashlib.file_digest(file, "sha256").hexdigest() not in digests:
            raise DamagedError(key, "its content does not match the digest in the database")
    elif reason := implausible(name_of(file), file, key):
        raise DamagedError(key, reason)
    elif os.fstat(file.fileno()).st_mtime_ns > signed_since:
        raise DamagedError(key, "it has no digest, although it was written after the upgrade")
    with suppress(StorageError):  # the store may be read-only
        _write_digest(file, key, path, adopted=datetime.now(UTC).isoformat(timespec="seconds"))


def _write_digest(file: BufferedIOBase, key: str, target: Path, **facts: str) -> None:
    beside = digest_beside(target)
    with atomic_write(beside) as temporary:
        temporary.write_text(json.dumps({DIGEST: digest_of(file, key), **facts}))
        put(temporary, beside)
