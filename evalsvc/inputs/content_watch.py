"""What is read is what was digested: a file that is written over is never scored under the digest of before."""

from __future__ import annotations

from pathlib import Path

from evalsvc.core.errors import CheckpointError
from evalsvc.inputs.checkpoint_folders import stamp_checkpoint
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.interfaces import CheckpointFiles


class ContentWatch:
    """Remembers under which stamp a content was seen, so that it is digested again only where it was touched."""

    def __init__(self) -> None:
        self._stamps: dict[tuple[Path, str], str] = {}

    def require(self, checkpoint: Checkpoint, files: CheckpointFiles | None = None) -> None:
        """Make sure that the checkpoint's path still has its content.

        Raises:
            CheckpointError: it has another.
            InputError: it does not exist.
        """
        stamp, key = stamp_checkpoint(checkpoint.path), (checkpoint.path, checkpoint.digest)
        if stamp not in (checkpoint.stamp, self._stamps.get(key)) and not checkpoint.is_still(files):
            raise CheckpointError(
                f"{checkpoint.path} was written over while it was scored, and its scores would be another file's: "
                "score a file that training has finished with"
            )
        self._stamps[key] = stamp
