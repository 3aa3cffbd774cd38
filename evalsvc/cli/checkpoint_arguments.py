"""The checkpoints that a command is given: found, named and digested before any work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from evalsvc.cli.console import err, table
from evalsvc.core.errors import printable
from evalsvc.inputs.checkpoint_names import Naming

if TYPE_CHECKING:  # torch takes seconds to import, and reading commands must not wait for it
    from evalsvc.inputs.checkpoints import Checkpoint
    from evalsvc.plugins.interfaces import CheckpointFiles

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
    """The checkpoints that the patterns name. More than one are listed on stderr, with what was read from their names.

    Raises:
        InputError: nothing matches, a name states no step for sure, or two contents have one label.
    """
    from evalsvc.evaluation import given_checkpoints

    found = given_checkpoints.find_checkpoints(patterns, naming, files)
    if len(found) > 1:
        every = ((each.given, each.checkpoint) for each in found)
        show_names([(given, opened.model, opened.step, opened.digest[:8]) for given, opened in every])
    given_checkpoints.require_distinct(found)
    return [each.checkpoint for each in found]


def show_names(rows: Iterable[tuple[str, str, int | str, str]]) -> None:
    """What was read from each name, on stderr: path, model, step and the first digits of the digest."""
    made = table("", "checkpoint", "model", "step", "digest", right=("step", "digest"))
    made.columns[0].overflow = "fold"  # the end of a path says most
    for path, model, step, digest in rows:
        made.add_row(printable(path), model, str(step), digest)
    err.print(made)
