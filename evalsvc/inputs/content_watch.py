"""Detection of checkpoints that change while they are scored."""

from __future__ import annotations

from pathlib import Path

from evalsvc.core.errors import CheckpointError
from evalsvc.inputs.checkpoint_folders import stamp_checkpoint
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.interfaces import CheckpointFiles


class ContentWatch:
    """Remembers the stamps under which contents were verified, so that only modified files are digested again."""

    def __init__(self) -> None:
        self._stamps: dict[tuple[Path, str], str] = {}

    def require(self, checkpoint: Checkpoint, files: CheckpointFiles | None = None) -> None:
        """Raise if the content at the checkpoint's path has changed.

        Raises:
            CheckpointError: the content has changed.
            InputError: the path does not exist.
        """
        stamp, key = stamp_checkpoint(checkpoint.path), (checkpoint.path, checkpoint.digest)
        if stamp not in (checkpoint.stamp, self._stamps.get(key)) and not checkpoint.is_still(files):
            raise CheckpointError(
                f"{checkpoint.path} was overwritten while it was scored: score a file that training no longer writes to"
            )
        self._stamps[key] = stamp
