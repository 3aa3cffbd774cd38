"""Checkpoints and their safe loading. Checkpoints are untrusted: tensors are loaded, code is not executed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.core.files.safetensors_files import open_safetensors
from evalsvc.inputs.checkpoint_folders import digest_checkpoint, earlier_digests, endpoint_name, stamp_checkpoint
from evalsvc.inputs.checkpoint_steps import step_from_name as step_from_name
from evalsvc.inputs.weight_files import read_weights
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import CheckpointFiles

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_NAME = 200
"""Maximum length of a model's name, in characters."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights (or samples) of one model at one training step, identified by content.

    ``stamp`` detects changes at ``path`` since it was digested, without reading the content; empty if unknown.
    """

    model: str
    step: int
    path: Path
    digest: str
    stamp: str = field(default="", compare=False)

    @classmethod
    def open(cls, path: Path, model: str, step: int, files: CheckpointFiles | None = None) -> Checkpoint:
        """Digest the file, folder or endpoint (``endpoint:NAME``) at ``path``.

        ``files`` selects the files of a folder, as in :meth:`evalsvc.plugins.registry.Plugins.checkpoint_files`.

        Raises:
            InputError: the path is missing or empty, or the name of the model is invalid.
        """
        if not (0 < len(model) <= LONGEST_NAME and model.isprintable()):
            raise InputError(f"invalid model name {model!r}: use 1 to {LONGEST_NAME} printable characters")
        stamp = stamp_checkpoint(path)  # before reading, so that a change during the reading is detected
        place = path.resolve() if endpoint_name(path) is None else path
        return cls(model, step, place, digest_checkpoint(path, files), stamp)

    def is_still(self, files: CheckpointFiles | None = None) -> bool:
        """Whether the content at ``path`` has this digest, under the current exclusion list or an earlier one."""
        return digest_checkpoint(self.path, files) == self.digest or self.digest in earlier_digests(self.path)

    def tensors(self, state: str = "", *, trusted: bool = False) -> dict[str, Tensor]:
        """Load all tensors of a file, or of the only set of weights in a folder, to the CPU; pickled code never runs.

        ``state`` selects one of several state dicts of a file by its dotted path (``"."`` is the top level). An
        untrusted torch file is read by a sandboxed process.

        Raises:
            CheckpointError: the file is damaged, has no tensors or no such entry, or ``state`` is required.
        """
        state_dicts = read_weights(self.path, trusted=trusted)
        try:
            return dict((state_dicts.at(state) if state else state_dicts).only())
        except InputError as error:
            raise CheckpointError(f"checkpoint {self.path} {error}") from None

    def metadata(self) -> dict[str, str]:
        """String metadata of a safetensors file; empty for other formats."""
        if self.path.suffix != ".safetensors":
            return {}
        try:
            with open_safetensors(self.path) as file:
                return dict(file.metadata() or {})
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"checkpoint {self.path} is not a complete safetensors file ({error})") from None


def load_into(module: torch.nn.Module, checkpoint: Checkpoint, state: str = "", *, trusted: bool = False) -> str:
    """Copy the checkpoint's tensors into ``module``, and return what was taken, for :attr:`GeneratorInfo.weights`.

    A file may contain several state dicts, under any prefix. The only one whose names and shapes match is used, or the
    only one at ``state`` (a dotted path; ``"."`` is the file's top level). What is returned is its dotted path (empty
    for the whole file), with the file of a folder before it, and in parentheses how it was read:
    ``model.safetensors: ema (bfloat16)``.

    Raises:
        CheckpointError: no state dict matches (the message lists the first missing or unexpected names or shapes),
            several match, or the file cannot be read.
    """
    state_dicts = read_weights(checkpoint.path, trusted=trusted)
    try:
        taken = (state_dicts.at(state) if state else state_dicts).fill(module)
    except InputError as error:
        raise CheckpointError(f"checkpoint {checkpoint.path} {error}") from None
    return taken
