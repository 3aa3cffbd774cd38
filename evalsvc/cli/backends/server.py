"""The back end of a server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from evalsvc.analysis.leaderboard import Board, Column, Difference, Entry
from evalsvc.analysis.nearness import Farther
from evalsvc.api import schemas
from evalsvc.api.client import Client
from evalsvc.api.schemas import EvaluationOptions, PromoteOptions
from evalsvc.cli.alias import show_aliases
from evalsvc.cli.backends import Answer, Pinned, Submitted
from evalsvc.cli.checkpoint_arguments import show_names
from evalsvc.cli.console import table
from evalsvc.cli.items import changes_answer, listing_answer
from evalsvc.cli.people_tables import ratings_answer
from evalsvc.cli.queue import document, evaluations_table, line
from evalsvc.cli.score_tables import boards_answer, comparison_answer
from evalsvc.core.columns import Progress
from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoint_folders import digest_checkpoint, endpoint_name
from evalsvc.inputs.checkpoint_names import CheckpointName, Labels, Naming
from evalsvc.inputs.stored_checkpoints import is_path
from evalsvc.metrics.score import Reference

ENDED = ("succeeded", "failed", "cancelled", "superseded")


class Server:
    """The operations that the API offers to clients."""

    here = False

    def __init__(self, client: Client) -> None:
        self.client = client

    def leaderboard(
        self, suite: str | None, metric: str | None, which: Literal["latest", "all"], reference: Reference
    ) -> Answer:
        """Leaderboards, one per protocol."""
        return boards_answer(list(map(_board, self.client.leaderboard(suite, metric, which, reference))))

    def ratings(self, suite: str | None) -> Answer:
        """Ratings by people, beside those of judges."""
        return ratings_answer(self.client.ratings(suite))

    def compare(self, a: str, b: str, suite: str | None, label: str | None = None) -> Answer:
        """Differences between two checkpoints, b minus a."""
        found = self.client.compare(local_digest(a), local_digest(b), suite, label=label)
        return comparison_answer(found.suite, found.a, found.b, list(map(_difference, found.differences)))

    def items(self, checkpoint: str, of: str | None, worst: int, by: str | None, suite: str | None) -> Answer:
        """The worst samples of a checkpoint."""
        return listing_answer(self.client.items(local_digest(checkpoint), of, worst, suite=suite, by=by))

    def compare_items(self, a: str, b: str, of: str, limit: int, suite: str | None) -> Answer:
        """Items that changed most between two checkpoints, paired by item."""
        return changes_answer(self.client.compare_items(local_digest(a), local_digest(b), of, limit, suite=suite))

    def models(self) -> Answer:
        """The models, by name."""
        found = [each.model_dump(mode="json") for each in self.client.models()]
        return _listed("models", found, ("name", "family", "checkpoints", "last_step", "evaluations"))

    def checkpoints(self, model: str | None) -> Answer:
        """List the checkpoints, newest first."""
        found = [each.model_dump(mode="json") for each in self.client.checkpoints(model)]
        return _listed("checkpoints", found, ("model", "step", "mark", "generator", "digest", "path"))

    def submit(
        self, checkpoints: list[str], asked: EvaluationOptions, naming: Naming, plugins: Sequence[Path], *, upload: bool
    ) -> list[Submitted]:
        """Put evaluations of files on the server, or of uploaded files, on its queue."""
        _no_plugins(plugins)
        if str(asked.suite).endswith((".yaml", ".yml")):
            raise InputError(f"--suite {asked.suite} is a local file: use name@version")
        made = []
        for path, name in _named(checkpoints, naming, upload=upload).items():
            endpoint = endpoint_name(path)
            where: dict[str, Any] = {"path": path} if endpoint is None else {"endpoint": endpoint}
            if upload:
                where = {"upload": self.client.upload(Path(path)).digest}
            if name and (upload or naming.model_pattern):
                where["model"] = name.model
            if name and (upload or naming.step_pattern):
                where["step"] = name.step
            made.append(self.client.submit(**(dict(asked) | where)))
        return [
            Submitted(each.id, f"{each.model}@{each.step}{each.mark}: {each.status}", each.model_dump(mode="json"))
            for each in made
        ]

    def pending(self) -> list[int]:
        """Evaluations in progress."""
        return [each.id for each in self.client.evaluations("queued", "running")]

    def progress(self, ids: Sequence[int]) -> Sequence[Progress]:
        """These evaluations, in this order."""
        return [self.client.evaluation(each) for each in ids]

    def status(self, ids: Sequence[int], limit: int) -> Answer:
        """These evaluations; without ids, those in progress, some finished ones, and the workers."""
        workers = [each.model_dump(mode="json") for each in self.client.workers()]
        found = list(self.progress(ids))
        if not ids:
            found += [*self.client.evaluations("queued", "running"), *islice(self.client.evaluations(*ENDED), limit)]
        whole = {"evaluations": list(map(document, found)), "workers": workers}
        evaluations = evaluations_table(found) if found else "nothing has been submitted yet"
        if ids:
            return Answer(whole, [evaluations], list(map(line, found)))
        columns = ("host", "role", "device", "status", "seen_at", "evaluation_id")
        return Answer(whole, [evaluations, *_listed("workers", workers, columns).shown])

    def cancel(self, id: int) -> None:
        """Cancel an evaluation."""
        self.client.cancel(id)

    def retry(self, id: int) -> int:
        """Put an evaluation on the queue again; return the number of its attempt."""
        return self.client.retry(id).attempt

    def gates(self, model: str | None, limit: int) -> Answer:
        """Decisions, newest first."""
        found = [each.model_dump(mode="json") for each in islice(self.client.gates(model), limit)]
        named = [
            row | {"candidate": row["candidate"]["name"] or f"{row['candidate']['model']}@{row['candidate']['step']}"}
            for row in found
        ]
        return _listed(
            "gates", named, ("id", "created_at", "candidate", "suite", "baseline", "outcome", "by", "reason")
        )

    def aliases(self) -> Answer:
        """Every alias with its checkpoint and the policy that protects it."""
        found = list(self.client.aliases())
        return show_aliases([(each.name, _title(each.checkpoint), each.protected_by) for each in found])

    def alias_history(self, name: str, limit: int) -> Answer:
        """The moves of an alias, newest first."""
        found = [
            {
                "at": each.created_at.isoformat(timespec="seconds"),
                "event": each.kind,
                "checkpoint": _title(each.checkpoint),
                "gate": each.gate,
                "by": each.by,
                "reason": each.reason,
            }
            for each in islice(self.client.promotions(name), limit)
        ]
        return _listed(f"alias {name}", found, ("at", "event", "checkpoint", "gate", "by", "reason"))

    def promote(self, name: str, checkpoint: str, asked: PromoteOptions) -> str:
        """Point an alias to a checkpoint; an unprotected alias requires scope admin."""
        reason = asked.reason or None
        return _title(self.client.promote(name, local_digest(checkpoint), asked.gate, reason=reason).checkpoint)

    def protect(self, name: str, policy: Path, plugins: Sequence[Path]) -> Pinned:
        """Pin a policy to an alias. Requires scope admin."""
        _no_plugins(plugins)
        try:
            found = self.client.protect(name, policy)
        except OSError as error:
            raise InputError(f"policy {policy} cannot be read ({error.strerror})") from None
        return Pinned(found.policy_digest, found.suite)

    def unprotect(self, name: str) -> None:
        """End the protection of an alias. Requires scope admin."""
        self.client.unprotect(name)


def local_digest(given: str) -> str:
    """A name, or the digest of the file at a path; a word without a separator is a folder only if written as ./word."""
    if os.path.isfile(given) or (os.path.basename(given) != given and is_path(given)):  # noqa: PTH113, PTH119
        return digest_checkpoint(Path(given))
    return given


def _no_plugins(files: Sequence[Path]) -> None:
    if files:
        raise InputError("--plugin loads code on this machine: ask the operator to install plug-ins on the server")


def _named(checkpoints: list[str], naming: Naming, *, upload: bool) -> dict[str, CheckpointName | None]:
    """The inferred names, listed if there are several; None if only the server, which has the files, can infer them."""
    names: dict[str, CheckpointName | None] = {}
    digests: dict[str, str] = {}
    for given in checkpoints:
        if upload and not Path(given).is_file():
            raise InputError(f"{given} is not a file: --upload sends files only")
        try:
            names[given] = naming.read(Path(given))
        except InputError:
            if upload or naming.model_pattern or naming.step_pattern:
                raise
            names[given] = None
        digests[given] = digest_path(Path(given)) if upload else ""
    if len(names) > 1:
        show_names((given, *(name or ("–", "–")), digests[given][:8] or "–") for given, name in names.items())
    labels = Labels()
    for given, name in names.items():
        if name:
            labels.claim(name, digests[given] or given, given)
    return names


def _listed(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Answer:
    made = table(title, *columns)
    for row in rows:
        made.add_row(*("–" if row[column] is None else str(row[column]) for column in columns))
    return Answer(rows, [made])


def _title(checkpoint: schemas.Checkpoint) -> str:
    return f"{checkpoint.model}@{checkpoint.step}{checkpoint.mark}"


def _board(board: schemas.Board) -> Board:
    entries = [
        Entry(
            rank=entry.rank,
            model=entry.model,
            family=entry.family,
            step=entry.step,
            checkpoint_id=entry.checkpoint_id,
            digest=entry.digest,
            mark=entry.mark,
            scores={(score.label, score.protocol): score for score in entry.scores},
        )
        for entry in board.entries
    ]
    columns = [Column(**column.model_dump()) for column in board.columns]
    return Board(board.suite, columns[0], columns, entries, board.reference, board.reference_unknown or "")


def _difference(found: schemas.Difference) -> Difference:
    return Difference(
        found.label,
        found.a,
        found.b,
        found.difference,
        found.stderr,
        found.reason or "",
        found.interval,
        found.paired,
        found.unpaired or "",
        found.independent,
        found.stderr_reference,
        found.reference_method or "",
        found.interval_sampled,
        Farther(**found.nearness.model_dump()) if found.nearness else None,
    )
