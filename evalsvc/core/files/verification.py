"""Whether a file is what was written under its key: checked once a process for each state that the file is in.

Arrays carry their digest; that of any other file is kept in a file beside it. Files of older versions have neither and
are adopted when they are first read: what can be seen of them is checked, and their digest is kept from then on.
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
from evalsvc.core.files.atomic_files import put, written_whole
from evalsvc.core.files.checksums import Stamp, digest_of, implausible, own_digest
from evalsvc.core.files.matrices import DIGEST

Known = Callable[[], Collection[str]]
"""Finds the sha256 of files of older versions; asked only where one is adopted."""
log = logging.getLogger(__name__)

REMEMBERED = 20_000
"""Files that a process keeps in mind as verified; one that is forgotten is verified again."""
_verified: dict[tuple[str, str], Stamp] = {}
_turn = threading.Lock()
_reported: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class Verified:
    """A file that was found to be what was written, in the state that ``stamp`` tells."""

    path: Path
    key: str
    stamp: Stamp

    def require_unchanged(self) -> None:
        """Make sure that nobody has written into the file since: a map of it would have changed too.

        Raises:
            DamagedError: somebody has.
        """
        with suppress(FileNotFoundError):  # a map of what was removed or replaced stays as it was
            if self.stamp.is_overwritten(Stamp.of(self.path.stat())):
                raise DamagedError(self.key, "it was overwritten while it was read")


def open_verified(
    path: Path, key: str, signed_since: int, known: Known | None = None
) -> tuple[BufferedIOBase, Verified]:
    """Open a file that is what was written under its key: whatever takes its name meanwhile is not read by mistake.

    One without a digest must have one of the ``known`` sha256, or be from before ``signed_since`` (ns).

    Raises:
        MissingError: there is no such file.
        DamagedError: it is not what was written.
        StorageError: this user may not read it.
    """
    if not path.is_file():
        raise MissingError(key)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise MissingError(key) from None
    except OSError as error:
        raise StorageError(f"{path} cannot be opened ({error.strerror}): artifacts must be readable") from None
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
    """Say in the log, once a process, that an artifact is damaged; one that is gone needs no word."""
    if not isinstance(error, MissingError) and (error.key, error.reason) not in _reported:
        _reported.add((error.key, error.reason))
        log.warning("artifact %s is damaged (%s) and is not used", error.key, error.reason)


def keep_digest(content: Path, key: str, target: Path) -> None:
    """Write down the digest of what will stand at ``target``."""
    with content.open("rb") as file:
        _write_digest(file, key, target)


def digest_beside(path: Path) -> Path:
    """Where the digest of a file that carries none is kept."""
    return path.with_name(f".{path.name}.sha256")


def name_of(file: BufferedIOBase) -> str:
    """A path to an open file, whatever has its name by now."""
    return f"/dev/fd/{file.fileno()}"


@contextmanager
def readable(key: str) -> Iterator[None]:
    """Whatever stops the reading of an open file is damage."""
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
            raise DamagedError(key, "the digest that is kept of it cannot be read") from None
    if digest_of(file, key) != digest:
        raise DamagedError(key, "its content does not match its digest")


def _adopt(file: BufferedIOBase, path: Path, key: str, signed_since: int, known: Known | None) -> None:
    """Keep the digest of a file of an older version, if it can be what was written."""
    file.seek(0)
    if known and (digests := known()):
        if hashlib.file_digest(file, "sha256").hexdigest() not in digests:
            raise DamagedError(key, "its content does not match the digest in the database")
    elif reason := implausible(name_of(file), file, key):
        raise DamagedError(key, reason)
    elif os.fstat(file.fileno()).st_mtime_ns > signed_since:
        raise DamagedError(key, "it carries no digest, and every file written since the upgrade does")
    with suppress(StorageError):  # a store may be for reading only
        _write_digest(file, key, path, adopted=datetime.now(UTC).isoformat(timespec="seconds"))


def _write_digest(file: BufferedIOBase, key: str, target: Path, **facts: str) -> None:
    beside = digest_beside(target)
    with written_whole(beside) as temporary:
        temporary.write_text(json.dumps({DIGEST: digest_of(file, key), **facts}))
        put(temporary, beside)
