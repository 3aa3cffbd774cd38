"""Checkpoints and their safe loading. A checkpoint is untrusted: it may hold tensors, never code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from evalsvc.digests import digest_path
from evalsvc.errors import CheckpointError, InputError
from evalsvc.load_worker import RefusedError, read_state
from evalsvc.loading import read_tensors

LONGEST_NAME = 200
"""Letters of a model's name."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights (or samples) of one model at one training step, identified by content."""

    model: str
    step: int
    path: Path
    digest: str

    @classmethod
    def open(cls, path: Path, model: str, step: int) -> Checkpoint:
        """Digest the file or folder at ``path``; a missing or empty one, or a name nobody can read, is an error."""
        if not (0 < len(model) <= LONGEST_NAME and model.isprintable()):
            raise InputError(
                f"{model!r} is no name of a model, which has 1 to {LONGEST_NAME} letters that can be seen: give another"
            )
        return cls(model, step, path.resolve(), digest_path(path))

    def tensors(self, *, trusted: bool = False) -> dict[str, Tensor]:
        """All tensors on the CPU, from safetensors or a weights-only torch file. Pickled code never runs.

        A torch file is a program for its reader: unless it is ``trusted``, a process that sees nothing else reads it.
        """
        if self.path.suffix == ".safetensors":
            try:
                with safe_open(self.path, framework="pt") as file:
                    return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"checkpoint {self.path} is not a whole safetensors file ({error})") from None
        try:
            if not trusted:
                return read_tensors(self.path)
            with self.path.open("rb") as file:
                return read_state(file)
        except RefusedError as error:
            raise CheckpointError(f"checkpoint {self.path} {error}") from None
        except OSError as error:
            raise CheckpointError(f"checkpoint {self.path} is truncated or no torch file ({error})") from None

    def metadata(self) -> dict[str, str]:
        """The string metadata of a safetensors file; empty for other formats."""
        if self.path.suffix != ".safetensors":
            return {}
        try:
            with safe_open(self.path, framework="pt") as file:
                return dict(file.metadata() or {})
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"checkpoint {self.path} is not a whole safetensors file ({error})") from None


def load_into(module: torch.nn.Module, checkpoint: Checkpoint, *, trusted: bool = False) -> None:
    """Copy the checkpoint's tensors into ``module``; any missing, unexpected or misshapen one is an error."""
    try:
        module.load_state_dict(checkpoint.tensors(trusted=trusted))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"checkpoint {checkpoint.path} does not fit the model: {reason[:300]}") from None


def step_from_name(path: Path) -> int | None:
    """Training step written in a file name: the last run of digits of the stem (``gan_step-4000.pt`` is 4000)."""
    numbers = re.findall(r"\d+", path.name.split(".")[0])
    return int(numbers[-1]) if numbers and len(numbers[-1]) < 19 else None  # a longer one is a date or an id
