"""Who answers commands: this machine's database, or with ``--server`` a server. A command has one function for both."""

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


@dataclass(frozen=True)
class Answer:
    """What a command prints: a document for machines, or tables and texts with remarks on stderr."""

    document: Any
    shown: Sequence[RenderableType]
    remarks: Sequence[str] = ()

    def show(self, *, as_json: bool) -> None:
        """Print it."""
        if as_json:
            print_json(self.document)
            return
        for each in self.shown:
            out.print(each)
        for remark in self.remarks:
            err.print(remark, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Submitted:
    """An evaluation that was asked for: its line for people, and its document for machines."""

    id: int
    line: str
    document: dict[str, Any]


@dataclass(frozen=True)
class Pinned:
    """The policy that an alias was given, and what its owner should know."""

    policy_digest: str
    suite: str
    warning: str = ""


class Backend(Protocol):
    """Answers commands.

    Raises:
        InputError: something is not there, or only the other one can do it.
    """

    here: bool
    """Whether it computes on this machine."""

    def leaderboard(self, suite: str | None, metric: str | None, which: Literal["latest", "all"]) -> Answer:
        """Ranks, one board a protocol."""

    def compare(self, a: str, b: str, suite: str | None) -> Answer:
        """Differences of two checkpoints, b minus a."""

    def models(self) -> Answer:
        """The models."""

    def checkpoints(self, model: str | None) -> Answer:
        """The checkpoints, of one model or all."""

    def submit(
        self, checkpoints: list[str], asked: EvaluationOptions, naming: Naming, plugins: Sequence[Path], *, upload: bool
    ) -> list[Submitted]:
        """Put evaluations on the queue."""

    def pending(self) -> list[int]:
        """The evaluations that have not ended."""

    def progress(self, ids: Sequence[int]) -> Sequence[Progress]:
        """These evaluations in this order."""

    def status(self, ids: Sequence[int], limit: int) -> Answer:
        """These evaluations; without any those in progress, ``limit`` that have ended, and the workers."""

    def cancel(self, id: int) -> None:
        """Stop an evaluation."""

    def retry(self, id: int) -> int:
        """Put an evaluation on the queue again; the number of its attempt."""

    def gates(self, model: str | None, limit: int) -> Answer:
        """Decisions, the newest first."""

    def aliases(self) -> Answer:
        """Every alias, what it points at, and the policy that protects it."""

    def alias_history(self, name: str, limit: int) -> Answer:
        """Where an alias pointed, the newest first."""

    def promote(self, name: str, checkpoint: str, asked: PromoteOptions) -> str:
        """Point an alias at a checkpoint; the name of the latter."""

    def protect(self, name: str, policy: Path, plugins: Sequence[Path]) -> Pinned:
        """Pin a policy to an alias."""

    def unprotect(self, name: str) -> None:
        """End the protection of an alias."""


def backend(context: typer.Context) -> Backend:
    """What the callback of the command line has chosen."""
    chosen: Backend = context.obj
    return chosen
