"""Checkpoints that match patterns: files, folders, globs, endpoints and hub models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalsvc.builtin.pretrained import from_hub
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoint_names import CheckpointName, Labels, Naming
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.weight_files import INDEXES
from evalsvc.plugins.interfaces import CheckpointFiles

HUB = "hub:"
"""Prefix of an ``org/name`` (or ``org/name@revision``) on the Hugging Face hub. Its models have step 0 by default."""


@dataclass(frozen=True)
class GivenCheckpoint:
    """A checkpoint, and the path or hub name by which it was given."""

    given: str
    checkpoint: Checkpoint


def find_checkpoints(
    patterns: Sequence[str], naming: Naming, files: CheckpointFiles | None = None
) -> list[GivenCheckpoint]:
    """The checkpoints that match the patterns, by model and step. All names are inferred before any digest is computed.

    ``files`` selects the files of a folder for their generator.

    Raises:
        InputError: nothing matches, a step cannot be inferred, or one step is given for several checkpoints.
    """
    folders = {str(path): path for pattern in patterns if not pattern.startswith(HUB) for path in _matches(pattern)}
    hub = [pattern for pattern in dict.fromkeys(patterns) if pattern.startswith(HUB)]
    if naming.step is not None and len(folders) + len(hub) > 1:
        raise InputError(
            f"--step {naming.step} is for one checkpoint, but {len(folders) + len(hub)} were given: use --step-pattern"
        )
    names = {given: naming.read(path) for given, path in folders.items()}
    for pattern in hub:
        names[pattern] = CheckpointName(
            naming.model or re.split("[:/]", pattern.partition("@")[0])[-1], naming.step or 0
        )
        folders[pattern] = from_hub(pattern.removeprefix(HUB), f"checkpoint {pattern}")
    return [
        GivenCheckpoint(given, Checkpoint.open(folders[given], *name, files))
        for given, name in sorted(names.items(), key=lambda item: item[1])
    ]


def require_distinct(checkpoints: Iterable[GivenCheckpoint]) -> None:
    """Raise if two contents have the same label.

    Raises:
        InputError: two contents have the same label.
    """
    labels = Labels()
    for each in checkpoints:
        name = CheckpointName(each.checkpoint.model, each.checkpoint.step)
        labels.claim(name, each.checkpoint.digest, each.given)


def _matches(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.name.endswith(INDEXES) and path.is_file():
        return [path.parent]  # whose digest covers the shards
    if path.exists() or not any(mark in pattern for mark in "*?["):
        return [path]
    anchor = Path(path.anchor) if path.is_absolute() else Path()
    try:
        matches = sorted(anchor.glob(str(path.relative_to(path.anchor))))
        if not path.name.startswith("."):  # as in a shell
            matches = [match for match in matches if not match.name.startswith(".")]
    except ValueError as error:
        raise InputError(f"invalid checkpoint pattern {pattern!r} ({error})") from None
    if not matches:
        raise InputError(f"no checkpoint matches {pattern!r}")
    return matches
