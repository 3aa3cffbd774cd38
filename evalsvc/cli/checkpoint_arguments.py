"""The checkpoint arguments of a command: found, named and digested before any work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from evalsvc.api.schemas import EvaluationOptions
from evalsvc.cli.console import err, table
from evalsvc.core.errors import InputError, printable
from evalsvc.core.names import SERVED
from evalsvc.inputs.checkpoint_folders import endpoint_name
from evalsvc.inputs.checkpoint_names import Naming

if TYPE_CHECKING:  # torch takes seconds to import, and reading commands must not wait for it
    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.evaluation.spec import EvaluationSpec
    from evalsvc.inputs.checkpoints import Checkpoint
    from evalsvc.plugins.interfaces import CheckpointFiles

Checkpoints = Annotated[
    list[str], typer.Argument(help="Checkpoint files or folders, quoted globs, hub:org/name, or endpoint:NAME.")
]
ModelPattern = Annotated[
    str,
    typer.Option(
        "--model-pattern", help="Regular expression that extracts the model from a path, such as runs/(.+?)/."
    ),
]
StepPattern = Annotated[
    str, typer.Option("--step-pattern", help=r"Regular expression that extracts the step from a name, such as ck(\d+).")
]


def find_checkpoints(patterns: list[str], naming: Naming, files: CheckpointFiles | None = None) -> list[Checkpoint]:
    """Find the checkpoints that the patterns match. If there are several, list them on stderr with the names inferred.

    Raises:
        InputError: nothing matches, the step cannot be inferred from a name, or two contents have the same label.
    """
    from evalsvc.evaluation import given_checkpoints

    found = given_checkpoints.find_checkpoints(patterns, naming, files)
    if len(found) > 1:
        every = ((each.given, each.checkpoint) for each in found)
        show_names([(given, opened.model, opened.step, opened.digest[:8]) for given, opened in every])
    given_checkpoints.require_distinct(found)
    return [each.checkpoint for each in found]


def generator_of(named: str | None, checkpoints: Sequence[str]) -> str:
    """The generator that was named; endpoints need no name.

    Raises:
        InputError: none was named, and not all checkpoints are endpoints.
    """
    if named is None and not all(map(endpoint_name, checkpoints)):
        raise InputError("--generator is missing: name a plug-in that 'evalsvc plugins list' shows")
    return named or SERVED


def plan(
    context: EvaluationContext, checkpoints: Iterable[Checkpoint], generator: str, asked: EvaluationOptions
) -> Iterator[EvaluationSpec]:
    """A specification for each checkpoint, by the options of the command; says which files are left out."""
    from evalsvc.evaluation import service

    suite = service.resolve_suite(str(asked.suite), context.database, context.plugins, reference=asked.reference or "")
    skipped = say_skipped if asked.skip_bad else None
    return service.plan_checkpoints(context, checkpoints, generator, asked.options, suite, asked.seed, skipped=skipped)


def say_skipped(names: Sequence[str]) -> None:
    """Print the number of skipped files and the name of the first."""
    if names:
        more = "" if len(names) == 1 else f" and {len(names) - 1} more"
        err.print(f"skipped {printable(names[0])}{more}: unreadable", soft_wrap=True)


def show_names(rows: Iterable[tuple[str, str, int | str, str]]) -> None:
    """Print the inferred names to stderr: path, model, step and the first digits of the digest."""
    made = table("", "checkpoint", "model", "step", "digest", right=("step", "digest"))
    made.columns[0].overflow = "fold"  # the end of a path is the most informative part
    for path, model, step, digest in rows:
        made.add_row(printable(path), model, str(step), digest)
    err.print(made)
