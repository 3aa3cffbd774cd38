"""Back ends of commands: this machine's database, or a server with ``--server``. A command has one
function for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import typer
from rich.console import RenderableType

from evalsvc.api.schemas import EvaluationOptions, PromoteOptions
from evalsvc.cli.console import err, out, print_json
from evalsvc.core.columns import Progress
from evalsvc.inputs.checkpoint_names import Naming
from evalsvc.metrics.score import Reference


@dataclass(frozen=True)
class Answer:
    """The output of a command: a JSON document, or tables and texts with remarks on stderr."""

    document: Any
    shown: Sequence[RenderableType]
    remarks: Sequence[str] = ()

    def show(self, *, as_json: bool) -> None:
        """Print the output."""
        if as_json:
            print_json(self.document)
            return
        for each in self.shown:
            out.print(each)
        for remark in self.remarks:
            err.print(remark, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Submitted:
    """A submitted evaluation: its line of text, and its JSON document."""

    id: int
    line: str
    document: dict[str, Any]


@dataclass(frozen=True)
class Pinned:
    """The policy pinned to an alias, and warnings for its owner."""

    policy_digest: str
    suite: str
    warning: str = ""


class Backend(Protocol):
    """Interface of a back end.

    Raises:
        InputError: something does not exist, or only the other back end supports the operation.
    """

    here: bool
    """Whether it computes on this machine."""

    def leaderboard(
        self, suite: str | None, metric: str | None, which: Literal["latest", "all"], reference: Reference
    ) -> Answer:
        """Leaderboards, one per protocol."""

    def ratings(self, suite: str | None) -> Answer:
        """Ratings by people, beside those of judges."""

    def compare(self, a: str, b: str, suite: str | None, label: str | None = None) -> Answer:
        """Show differences between two checkpoints, b minus a, of all scores or one."""

    def items(self, checkpoint: str, of: str | None, worst: int, by: str | None, suite: str | None) -> Answer:
        """List the worst samples of a checkpoint."""

    def compare_items(self, a: str, b: str, of: str, limit: int, suite: str | None) -> Answer:
        """List the items that changed most between two checkpoints."""

    def models(self) -> Answer:
        """The models."""

    def checkpoints(self, model: str | None) -> Answer:
        """The checkpoints of one model, or all checkpoints."""

    def submit(
        self, checkpoints: list[str], asked: EvaluationOptions, naming: Naming, plugins: Sequence[Path], *, upload: bool
    ) -> list[Submitted]:
        """Put evaluations on the queue."""

    def pending(self) -> list[int]:
        """Evaluations in progress."""

    def progress(self, ids: Sequence[int]) -> Sequence[Progress]:
        """These evaluations, in this order."""

    def status(self, ids: Sequence[int], limit: int) -> Answer:
        """These evaluations; without ids, those in progress, ``limit`` finished ones, and the workers."""

    def cancel(self, id: int) -> None:
        """Cancel an evaluation."""

    def retry(self, id: int) -> int:
        """Put an evaluation on the queue again; return the number of its attempt."""

    def gates(self, model: str | None, limit: int) -> Answer:
        """List decisions, newest first."""

    def aliases(self) -> Answer:
        """Every alias with its checkpoint and the policy that protects it."""

    def alias_history(self, name: str, limit: int) -> Answer:
        """The moves of an alias, newest first."""

    def promote(self, name: str, checkpoint: str, asked: PromoteOptions) -> str:
        """Point an alias to a checkpoint; return the checkpoint's name."""

    def protect(self, name: str, policy: Path, plugins: Sequence[Path]) -> Pinned:
        """Pin a policy to an alias."""

    def unprotect(self, name: str) -> None:
        """End the protection of an alias."""


def backend(context: typer.Context) -> Backend:
    """The back end that the command line has chosen."""
    chosen: Backend = context.obj
    return chosen
