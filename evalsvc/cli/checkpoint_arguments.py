"""The checkpoints that a command is given: found, named and digested before any work."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalsvc.cli.console import err, table
from evalsvc.core.errors import InputError, printable
from evalsvc.inputs.checkpoint_names import CheckpointName, Labels, Naming

if TYPE_CHECKING:  # torch takes seconds to import, and reading commands must not wait for it
    from evalsvc.inputs.checkpoints import Checkpoint
    from evalsvc.plugins.interfaces import CheckpointFiles

HUB = "hub:"
"""Before an ``org/name`` of the Hugging Face hub, whose models have no step: 0 unless --step says otherwise."""
Checkpoints = Annotated[
    list[str], typer.Argument(help="Checkpoint files or folders, globs in quotes, hub:org/name, or endpoint:NAME.")
]
ModelName = Annotated[str, typer.Option("--model", help="Model name; by default the name of the checkpoint's folder.")]
Step = Annotated[
    int | None,
    typer.Option("--step", min=0, max=2**63 - 1, help="Training step; by default read from the name."),
]
ModelPattern = Annotated[
    str, typer.Option("--model-pattern", help="Regular expression that finds the model in a path: runs/(.+?)/.")
]
StepPattern = Annotated[
    str, typer.Option("--step-pattern", help=r"Regular expression that finds the step in a name: ck(\d+).")
]


def find_checkpoints(patterns: list[str], naming: Naming, files: CheckpointFiles | None = None) -> list[Checkpoint]:
    """The checkpoints that the patterns name, by model and step. All are named and digested before any is scored.

    ``files`` says which files of a folder count to their generator.

    More than one are listed on stderr, with what was read from their names.

    Raises:
        InputError: nothing matches, a name states no step for sure, or two contents have one label.
    """
    from evalsvc.inputs.checkpoints import Checkpoint

    folders = {str(path): path for pattern in patterns if not pattern.startswith(HUB) for path in _matches(pattern)}
    hub = [pattern for pattern in dict.fromkeys(patterns) if pattern.startswith(HUB)]
    if naming.step is not None and len(folders) + len(hub) > 1:
        raise InputError(
            f"--step {naming.step} is for one checkpoint and {len(folders) + len(hub)} were given: use --step-pattern"
        )
    names = {given: naming.read(path) for given, path in folders.items()}
    for pattern in hub:
        names[pattern] = CheckpointName(naming.model or re.split("[:/]", pattern)[-1], naming.step or 0)
        folders[pattern] = _from_hub(pattern)
    found = {
        given: Checkpoint.open(folders[given], *name, files)
        for given, name in sorted(names.items(), key=lambda item: item[1])
    }
    if len(found) > 1:
        show_names([(given, *names[given], each.digest[:8]) for given, each in found.items()])
    labels = Labels()
    for given, each in found.items():
        labels.claim(names[given], each.digest, given)
    return list(found.values())


def show_names(rows: Iterable[tuple[str, str, int | str, str]]) -> None:
    """What was read from each name, on stderr: path, model, step and the first digits of the digest."""
    made = table("", "checkpoint", "model", "step", "digest", right=("step", "digest"))
    made.columns[0].overflow = "fold"  # the end of a path says most
    for path, model, step, digest in rows:
        made.add_row(printable(path), model, str(step), digest)
    err.print(made)


def _matches(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.exists() or not any(mark in pattern for mark in "*?["):
        return [path]
    anchor = Path(path.anchor) if path.is_absolute() else Path()
    try:
        matches = sorted(anchor.glob(str(path.relative_to(path.anchor))))
        if not path.name.startswith("."):  # as in a shell
            matches = [match for match in matches if not match.name.startswith(".")]
    except ValueError as error:
        raise InputError(f"invalid pattern of checkpoints {pattern!r} ({error})") from None
    if not matches:
        raise InputError(f"no checkpoint matches {pattern!r}")
    return matches


def _from_hub(pattern: str) -> Path:
    from evalsvc.builtin.pretrained import from_hub

    return from_hub(pattern.removeprefix(HUB), f"checkpoint {pattern}")
