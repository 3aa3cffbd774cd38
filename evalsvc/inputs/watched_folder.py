"""Detection of complete checkpoints in a folder that training writes to."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from evalsvc.core.digests import stamp_path
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoint_folders import DCP_METADATA
from evalsvc.inputs.checkpoint_steps import step_from_name

UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".incomplete", ".lock")
"""Suffixes of incomplete files."""


@dataclass(frozen=True)
class _Sight:
    stamp: str
    since: float


class WatchedFolder:
    """Checkpoints are files or folders that match ``pattern``; they are complete once their sizes and times are stable.

    They are stable if they have not changed for ``settle`` seconds by the local clock, since a file server's clock may
    differ. With a ``marker``, they are complete once it exists: inside of a folder, or beside a file, with the marker's
    name appended.
    """

    def __init__(
        self,
        folder: Path,
        pattern: str,
        settle: float,
        marker: str = "",
        clock: Callable[[], float] = time.monotonic,
        step: Callable[[Path], int | None] = step_from_name,
    ) -> None:
        if not folder.is_dir():
            raise InputError(f"cannot watch {folder}: it is not a folder")
        try:
            next(folder.glob(pattern), None)
        except (ValueError, NotImplementedError) as error:
            raise InputError(
                f"invalid pattern {pattern!r} ({error}): use a glob pattern for names in the folder, such as "
                "'step_*.pt'"
            ) from None
        self._folder, self._pattern, self._settle, self._marker, self._clock = folder, pattern, settle, marker, clock
        self._step = step
        self._sights: dict[Path, _Sight] = {}
        self._taken: dict[Path, str] = {}

    def whole(self) -> list[Path]:
        """Scan once; return complete checkpoints that were not taken in their current state, lowest step first."""
        sights = {}
        for path in sorted(self._folder.glob(self._pattern), key=lambda path: (self._step(path) or 0, path)):
            # A file that vanishes during the scan was renamed; an empty file is about to be filled.
            with suppress(OSError, InputError):
                if not self._is_checkpoint(path):
                    continue
                stamp, before = stamp_path(path), self._sights.get(path)
                sights[path] = before if before and before.stamp == stamp else _Sight(stamp, self._clock())
        self._sights = sights
        return [path for path in self.waiting if self._is_whole(path)]

    @property
    def waiting(self) -> list[Path]:
        """Checkpoints that the last scan found and that were not taken."""
        return [path for path, sight in self._sights.items() if self._taken.get(path) != sight.stamp]

    @property
    def pending(self) -> list[Path]:
        """Those of :attr:`waiting` that are complete, or become so if they do not change."""
        return [path for path in self.waiting if self._is_whole(path) or not (self._marker or self._is_stable(path))]

    def take(self, path: Path) -> None:
        """Mark a checkpoint as taken, unless it changes."""
        self._taken[path] = self._sights[path].stamp

    def _is_checkpoint(self, path: Path) -> bool:
        if path.name.startswith(".") or path.name.endswith(UNFINISHED):
            return False
        return not (self._marker and path.name.endswith(self._marker)) and (path.is_dir() or path.stat().st_size > 0)

    def _is_whole(self, path: Path) -> bool:
        if self._marker:
            return (path / self._marker if path.is_dir() else path.with_name(path.name + self._marker)).exists()
        # However slow the other ranks are, the metadata of a sharded folder is written last.
        return self._is_stable(path) and all((shard.parent / DCP_METADATA).exists() for shard in path.rglob("*.distcp"))

    def _is_stable(self, path: Path) -> bool:
        return self._clock() - self._sights[path].since >= self._settle
