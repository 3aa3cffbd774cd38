"""The back end of this machine's database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from evalsvc.analysis import leaderboard as ranking
from evalsvc.analysis.runs import runs_beside
from evalsvc.api.schemas import EvaluationOptions, PromoteOptions, Ratings
from evalsvc.cli.alias import show_aliases
from evalsvc.cli.backends import Answer, Pinned, Submitted
from evalsvc.cli.checkpoint_arguments import find_checkpoints, generator_of, plan
from evalsvc.cli.console import duration, energy, table
from evalsvc.cli.gate import open_gate, unavailable_exits_6
from evalsvc.cli.items import changes_answer, listing_answer, stored_tables
from evalsvc.cli.people_tables import ratings_answer
from evalsvc.cli.progress_bars import progress_bars
from evalsvc.cli.queue import document, evaluations_table, line, worker_document
from evalsvc.cli.score_tables import boards_answer, comparison_answer
from evalsvc.core.columns import Progress
from evalsvc.core.errors import InputError, printable
from evalsvc.core.settings import Settings
from evalsvc.evaluation.lifecycle import Deadlines
from evalsvc.evaluation.progress import failure_details, progress, workers
from evalsvc.gates.reports.text import stored, title
from evalsvc.inputs import stored_checkpoints
from evalsvc.inputs.checkpoint_names import Naming
from evalsvc.metrics.score import Reference
from evalsvc.queue.pending import pending_evaluations
from evalsvc.store import audit, names, queries
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.queries import ModelCost
from evalsvc.store.session import Database, clock
from evalsvc.store.tables import IN_PROGRESS, Status


class Local:
    """The database of :class:`~evalsvc.core.settings.Settings`."""

    here = True

    @cached_property
    def database(self) -> Database:
        """Opened on first use."""
        return Database(Settings().database)

    def leaderboard(self, suite: str | None, metric: str | None, which: ranking.Which, reference: Reference) -> Answer:
        """Leaderboards, one per protocol."""
        with self.database.read() as session:
            rows = queries.scores(session, queries.pick_suite(session, suite))
        return boards_answer(ranking.boards(rows, metric, which, reference))

    def ratings(self, suite: str | None) -> Answer:
        """Ratings by people, beside those of judges."""
        from evalsvc.analysis.rating_report import rating_report  # scipy's statistics take a second to import

        with self.database.read() as session:
            return ratings_answer(Ratings.model_validate(rating_report(session, queries.pick_suite(session, suite))))

    def compare(self, a: str, b: str, suite: str | None, label: str | None = None) -> Answer:
        """Differences between two checkpoints, b minus a; paired by influences if shards are available."""
        with self.database.read() as session:
            chosen = queries.pick_suite(session, suite)
            sides = [queries.side(session, stored_checkpoints.find(session, name), chosen, label) for name in (a, b)]
            found = [ranking.Side(rows, runs_beside(session, open_artifacts(Settings()), rows)) for _, rows in sides]
        return comparison_answer(chosen, sides[0][0], sides[1][0], ranking.compare(*found))

    def items(self, checkpoint: str, of: str | None, worst: int, by: str | None, suite: str | None) -> Answer:
        """The worst samples of a checkpoint."""
        from evalsvc.analysis.item_listings import item_listing

        (table,) = stored_tables(self.database, suite, checkpoint)
        return listing_answer(item_listing(table, of, worst, by=by))

    def compare_items(self, a: str, b: str, of: str, limit: int, suite: str | None) -> Answer:
        """Items that changed most between two checkpoints, paired by item."""
        from evalsvc.analysis.item_listings import item_comparison

        of_a, of_b = stored_tables(self.database, suite, a, b)
        return changes_answer(item_comparison(of_a, of_b, of, limit))

    def models(self) -> Answer:
        """The models and the costs of their evaluations."""
        with self.database.read() as session:
            found = queries.models(session)
            costs = queries.costs(session)
        right = ("checkpoints", "last step", "evaluations", "device time", "peak memory", "energy")
        made, documents = table("models", "model", "family", *right, right=right), []
        for model, count, last, evaluations in found:
            cost = costs.get(model.id, ModelCost())
            counts = {"checkpoints": count, "last_step": last, "evaluations": evaluations}
            documents.append({"model": model.name, "family": model.family, **counts, "cost": asdict(cost)})
            at_least = "≥ " if cost.metered < cost.evaluations else ""
            made.add_row(
                *(model.name, model.family, str(count), str(last), str(evaluations)),
                duration(cost.device_seconds),
                f"{cost.peak_memory / 2**30:.2f} GB" if cost.peak_memory else "–",
                at_least + energy(cost.energy) if cost.energy else "–",
            )
        return Answer(documents, [made])

    def checkpoints(self, model: str | None) -> Answer:
        """List the checkpoints by model and step."""
        with self.database.read() as session:
            found = queries.checkpoints(session, model)
            marks = names.marks(session, {row.id for row in found})
        made, documents = table("checkpoints", "model", "step", "generator", "digest", "path", right=("step",)), []
        for each in found:
            mark = marks.get(each.id, "")
            made.add_row(each.model.name, f"{each.step}{mark}", each.generator, each.digest[:12], printable(each.path))
            same = {key: getattr(each, key) for key in ("digest", "path", "generator", "generator_version", "options")}
            head = {"name": names.title(each, marks), "model": each.model.name, "step": each.step, "mark": mark}
            documents.append(head | same)
        return Answer(documents, [made])

    def submit(
        self, checkpoints: list[str], asked: EvaluationOptions, naming: Naming, plugins: Sequence[Path], *, upload: bool
    ) -> list[Submitted]:
        """Open the checkpoints on this machine, and put their evaluations on the queue of its database."""
        from evalsvc.evaluation import service
        from evalsvc.evaluation.context import EvaluationContext
        from evalsvc.plugins.registry import Plugins

        if upload:
            raise InputError("--upload requires a server: use 'evalsvc --server URL submit'")
        generator = generator_of(asked.generator, checkpoints)
        loaded = Plugins(tuple(plugins))
        found = find_checkpoints(checkpoints, naming, loaded.checkpoint_files(generator))
        with progress_bars() as show:
            context = EvaluationContext(Settings(), loaded, "cpu")
            specs = plan(context, found, generator, asked)
            submissions = service.submit(
                context,
                specs,
                priority=asked.priority,
                deadlines=Deadlines.model_validate(asked.deadlines.model_dump()),
                rerun=asked.rerun,
                advance=show.stage("checkpoints", len(found)),
            )
        seen = self.progress([each.id for each in submissions])
        return [
            Submitted(each.id, f"{there.name}: {'queued' if each.created else f'{each.status} already'}", asdict(each))
            for there, each in zip(seen, submissions, strict=True)
        ]

    def pending(self) -> list[int]:
        """Evaluations on the queue."""
        return [each.attempt.evaluation for each in pending_evaluations(self.database)]

    def progress(self, ids: Sequence[int]) -> list[Progress]:
        """These evaluations, in this order."""
        with self.database.read() as session:
            found = {each.id: each for each in progress(session, ids)}
        for unknown in (evaluation for evaluation in ids if evaluation not in found):
            raise InputError(f"there is no evaluation {unknown}: 'evalsvc status' lists evaluations")
        return [found[evaluation] for evaluation in ids]

    def status(self, ids: Sequence[int], limit: int) -> Answer:
        """These evaluations with the reasons of failures; without ids, those in progress, some finished ones, and the
        workers.
        """
        found = self.progress(ids)
        with self.database.read() as session:
            now, at_work = clock(session), workers(session)
            details = failure_details(session, ids)
            if not ids:
                ended = [each for each in Status if each not in IN_PROGRESS]
                found = [*progress(session, statuses=IN_PROGRESS), *progress(session, statuses=ended, limit=limit)]
        documents = [document(each) | ({"detail": details[each.id]} if each.id in details else {}) for each in found]
        whole = {"evaluations": documents, "workers": [worker_document(row, now) for row in at_work]}
        evaluations = evaluations_table(found) if found else "nothing has been submitted yet"
        if ids:
            said = [part for each in found for part in (line(each), details.get(each.id)) if part]
            return Answer(whole, [evaluations], said)
        made = table("workers", "host", "role", "device", "status", "seen", "evaluation", right=("seen",))
        for row in at_work:
            seen, at = f"{(now - row.seen_at).total_seconds():.0f} s ago", str(row.evaluation_id or "–")
            made.add_row(row.host, row.role, row.device or "–", row.status, seen, at)
        nobody = "no worker is running: start one with 'evalsvc worker'"
        return Answer(whole, [evaluations, made if at_work else nobody])

    def cancel(self, id: int) -> None:
        """Cancel an evaluation."""
        from evalsvc.evaluation import lifecycle

        lifecycle.cancel(self.database, id)

    def retry(self, id: int) -> int:
        """Put an evaluation on the queue again; return the number of its attempt."""
        from evalsvc.evaluation import lifecycle

        return lifecycle.retry(self.database, id)

    def gates(self, model: str | None, limit: int) -> Answer:
        """Decisions, newest first, with the aliases that they moved."""
        promoted: dict[int | None, list[str]] = {}
        with unavailable_exits_6(), self.database.read() as session:
            rows = queries.gates(session, model, limit=limit)
            titles = names.titles_of_gates(session, rows)
            for promotion in queries.promotions(session, limit=1000):
                promoted.setdefault(promotion.gate_id, []).append(promotion.alias)
        documents: list[dict[str, Any]] = [
            {
                "gate": row.id,
                "at": row.created_at.isoformat(timespec="seconds"),
                "candidate": titles[row.id],
                "suite": row.suite,
                "baseline": row.baseline,
                "status": row.status,
                "outcome": title(stored(row)),
                "exit_code": row.exit_code,
                "shadow": row.shadow,
                "samples": row.evidence["samples"],
                "by": row.by,
                "policy": row.policy_digest[:12],
                "promoted": promoted.get(row.id, []),
                "reason": row.verdict["reason"],
            }
            for row in rows
        ]
        columns = ("gate", "at", "candidate", "suite", "baseline", "status", "samples", "by", "promoted", "reason")
        made = table("gates", *columns)
        for each in documents:
            shown = each | {"status": each["outcome"], "promoted": ", ".join(each["promoted"])}
            made.add_row(*(str(shown[column]) for column in columns))
        return Answer(documents, [made])

    def aliases(self) -> Answer:
        """Every alias, including protected ones that were never set."""
        with self.database.read() as session:
            aliases = queries.aliases(session)
            titles = names.titles(session, [row.checkpoint for row in aliases])
            pinned = {row.alias: row.policy_digest for row in queries.protections(session) if row.ended_at is None}
        targets = dict.fromkeys(pinned, "") | {row.name: titles[row.checkpoint_id] for row in aliases}
        return show_aliases([(name, targets[name], pinned.get(name)) for name in sorted(targets)])

    def alias_history(self, name: str, limit: int) -> Answer:
        """The moves of an alias, newest first, and its protections."""
        with self.database.read() as session:
            moves = queries.promotions(session, name, limit)
            titles = names.titles(session, [move.checkpoint for move in moves])
            pinned = queries.protections(session, name)
        if not moves and not pinned:
            raise InputError(f"alias {name!r} was never set: 'evalsvc alias list' lists all aliases")
        events: list[tuple[Any, dict[str, Any]]] = [
            (
                move.created_at,
                {
                    "event": move.kind,
                    "checkpoint": titles[move.checkpoint_id],
                    "gate": move.gate_id,
                    "policy": None,
                    "by": move.by,
                    "reason": move.reason,
                },
            )
            for move in moves
        ]
        for rule in pinned:
            fact: dict[str, Any] = {"checkpoint": None, "gate": None, "policy": rule.policy_digest, "reason": ""}
            events.append((rule.created_at, {"event": "protected", "by": rule.by} | fact))
            if rule.ended_at is not None:
                events.append((rule.ended_at, {"event": "protection ended", "by": rule.ended_by or ""} | fact))
        events.sort(key=lambda event: event[0], reverse=True)
        documents = [{"at": at.isoformat(timespec="seconds")} | facts for at, facts in events]
        columns = ("at", "event", "checkpoint", "gate", "policy", "by", "reason")
        made = table(f"alias {name}", *columns)
        for each in documents:
            shown = each | {"policy": (each["policy"] or "")[:12]}
            made.add_row(*(str(shown[column] or "") for column in columns))
        return Answer(documents, [made])

    def promote(self, name: str, checkpoint: str, asked: PromoteOptions) -> str:
        """Point an alias to a checkpoint."""
        from evalsvc.gates.promote import promote

        with unavailable_exits_6():
            with self.database.read() as session:
                target = stored_checkpoints.find(session, checkpoint).id
            return promote(self.database, name, target, asked.gate, by=audit.current().name, reason=asked.reason)

    def protect(self, name: str, policy: Path, plugins: Sequence[Path]) -> Pinned:
        """Pin a policy and its suite."""
        from evalsvc.gates.promote import protect

        with unavailable_exits_6():
            opened = open_gate(policy, plugins, None, 1)
            read = opened.policy
            with opened.database.write() as session:
                pinned = protect(session, name, read, opened.suites, audit.current().name)
        warning = ""
        if read.baseline is not None and str(read.baseline) != f"alias {name}":
            warning = (
                f"warning: the policy compares with {read.baseline}, but {name} moves only by gates that compared with "
                f"its current checkpoint: use 'baseline: {{alias: {name}}}'"
            )
        return Pinned(read.digest, pinned.suite, warning)

    def unprotect(self, name: str) -> None:
        """End the protection of an alias; the protection stays in its history."""
        from evalsvc.gates.promote import unprotect

        with unavailable_exits_6(), self.database.write() as session:
            unprotect(session, name, audit.current().name)
