"""Sources of evidence: stored scores, or an evaluation context that computes missing ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from evalsvc.analysis.differences import Run
from evalsvc.analysis.runs import DAMAGED, stored_runs
from evalsvc.analysis.runs import Runs as Runs
from evalsvc.core.errors import InputError, StorageError
from evalsvc.evaluation.first_samples import used_first_samples
from evalsvc.gates.current_protocol import CurrentProtocol
from evalsvc.gates.evidence import Absent
from evalsvc.gates.resolution import unbiased_in_n
from evalsvc.inputs.slice_labels import whole_of
from evalsvc.metrics.score import MetricError
from evalsvc.store import names, queries, tables
from evalsvc.store.session import Database

if TYPE_CHECKING:
    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.evaluation.spec import EvaluationSpec
    from evalsvc.inputs.suites import Suite
    from evalsvc.plugins.registry import Plugins
    from evalsvc.store.artifacts import Artifacts
    from evalsvc.store.queries import ScoreRow


class Source(Protocol):
    """Scores of checkpoints under one suite."""

    @property
    def computes(self) -> bool:
        """Whether the source can compute more samples."""

    def full(self, checkpoint: tables.Checkpoint, replicates: int, seed: int | None) -> Runs:
        """All samples of the suite, for every seed that was evaluated. A source that can compute adds ``seed`` and
        evaluates at least ``replicates`` seeds.
        """

    def part(
        self, checkpoint: tables.Checkpoint, samples: int, seed: int | None, rows: slice | None = None
    ) -> Runs | None:
        """The first samples of the suite, or some rows of them; ``None`` if they are too few for a metric."""

    def stored(self, checkpoint: tables.Checkpoint, seed: int | None) -> int:
        """Number of full runs that are available without computing."""

    def why_nothing(self, checkpoint: tables.Checkpoint) -> Absent:
        """The reason why a checkpoint has no scores."""


@dataclass(frozen=True)
class Stored:
    """Stored scores only, recomputed from stored shards if their protocol is outdated.

    ``open_context`` opens the evaluation context that recomputing needs; with ``None`` nothing is recomputed.
    """

    database: Database
    suite: Suite
    artifacts: Artifacts
    labels: frozenset[str]
    plugins: Plugins
    open_context: Callable[[], EvaluationContext] | None = None
    computes: bool = False
    refreshed: set[int] = field(default_factory=set)
    firsts: dict[int, bool] = field(default_factory=dict)

    def full(self, checkpoint: tables.Checkpoint, replicates: int, seed: int | None) -> Runs:
        """Scores of every seed that was evaluated. Scores of an outdated protocol are marked."""
        self._refresh(checkpoint)
        found = self._runs(checkpoint)
        if damaged := self._damaged(found):
            self._restore(damaged)
            found = self._runs(checkpoint)
            if damaged := self._damaged(found):
                # An unpaired difference would be another estimate, possibly with too small an error.
                raise StorageError(f"evaluation {min(damaged)}: {DAMAGED.influence}")
        return {
            label: [replace(run, outdated=self._outdated(label, run.facts, run.run)) for run in runs]
            for label, runs in found.items()
        }

    def _runs(self, checkpoint: tables.Checkpoint) -> Runs:
        with self.database.read() as session:
            return stored_runs(session, self.artifacts, checkpoint, self.suite.id)

    def _damaged(self, found: Runs) -> set[int]:
        """Evaluations whose gated scores have lost the data that pairs them with others."""
        gated = (run for label in self.labels for run in found.get(label, ()))
        return {run.run for run in gated if run.influence == DAMAGED.influence}

    def _restore(self, evaluations: set[int]) -> None:
        if self.open_context is not None:
            from evalsvc.evaluation.rescoring import restore

            context = self.open_context()
            for each in evaluations:
                restore(each, context, may_compute=self.computes)

    def part(
        self, checkpoint: tables.Checkpoint, samples: int, seed: int | None, rows: slice | None = None
    ) -> Runs | None:
        """Partial samples are never stored."""
        return None

    def stored(self, checkpoint: tables.Checkpoint, seed: int | None) -> int:
        """Number of seeds that were evaluated under the current protocol; with ``seed``, 1 if it was one of them and 0
        otherwise.
        """
        self._refresh(checkpoint)
        with self.database.read() as session:
            runs = queries.replicates(session, checkpoint, self.suite.id)
        current = {number for number, rows in runs.items() if not self._is_outdated(rows)}
        return len(current) if seed is None else int(seed in current)

    def _refresh(self, checkpoint: tables.Checkpoint) -> None:
        """Recompute scores of an outdated protocol, once per checkpoint."""
        if self.open_context is None or checkpoint.id in self.refreshed:
            return
        self.refreshed.add(checkpoint.id)
        with self.database.read() as session:
            runs = queries.replicates(session, checkpoint, self.suite.id)
            old = [
                session.get_one(tables.Evaluation, rows[0].evaluation_id)
                for rows in runs.values()
                if self._is_outdated(rows)
            ]
        if old:
            from evalsvc.evaluation.rescoring import rescore

            context = self.open_context()
            for each in old:
                rescore(each, self.suite, context)

    def _is_outdated(self, rows: Sequence[ScoreRow]) -> bool:
        """Whether a gated score has another protocol than the current one."""
        return any(row.label in self.labels and self._outdated(row.label, row.facts, row.evaluation_id) for row in rows)

    def _outdated(self, label: str, facts: Mapping[str, Any], evaluation: int) -> str:
        """Describe how the protocol of a stored score differs from the current one; empty if it does not."""
        if "samples" in facts and self._took_first(evaluation):
            return "it used the first samples, and the current protocol uses a random subset"
        return self._today.difference(label, facts)

    def _took_first(self, evaluation: int) -> bool:
        if evaluation not in self.firsts:
            with self.database.read() as session:
                spec = session.get_one(tables.Evaluation, evaluation).spec
            self.firsts[evaluation] = used_first_samples(spec, self.artifacts)
        return self.firsts[evaluation]

    @cached_property
    def _today(self) -> CurrentProtocol:
        return CurrentProtocol.of(self.suite, self.database, self.plugins)

    def why_nothing(self, checkpoint: tables.Checkpoint) -> Absent:
        """The checkpoint was never scored, or its evaluation failed."""
        with self.database.read() as session:
            who = names.title_of(session, checkpoint)
            for run in queries.evaluations(session, checkpoint.id):
                if f"{run.suite.name}@{run.suite.version}" == self.suite.id and run.status == tables.Status.FAILED:
                    return Absent("error", f"{who}: {run.error}")
        return Absent("missing", f"{who} has no scores under {self.suite.id}: score it first")


@dataclass(frozen=True)
class Computed:
    """Compute missing scores. Partial samples reuse existing shards, and leave theirs for later looks."""

    context: EvaluationContext
    suite: Suite
    labels: frozenset[str]
    computes: bool = True

    def full(self, checkpoint: tables.Checkpoint, replicates: int, seed: int | None) -> Runs:
        """Evaluate ``seed`` and further seeds up to ``replicates``, counted from it or from the suite's seed; then read
        all scores.

        If the checkpoint cannot be opened here, only its stored runs are returned.
        """
        from evalsvc.evaluation import service

        number = self.suite.seed if seed is None else seed
        wanted = number
        while self.stored(checkpoint, None) < replicates or (seed is not None and not self.stored(checkpoint, seed)):
            try:
                spec = self._spec(checkpoint, self.suite, wanted)
            except InputError:
                # Its file is on another machine or was overwritten; stored runs remain valid.
                if seed is None and self.stored(checkpoint, None):
                    break
                raise
            service.run(self.context, [spec])
            wanted += 1
        return self._store.full(checkpoint, replicates, seed)

    def part(
        self, checkpoint: tables.Checkpoint, samples: int, seed: int | None, rows: slice | None = None
    ) -> Runs | None:
        """The gated metrics on the first ``samples`` samples; nothing is recorded as an evaluation. ``None`` also if
        the checkpoint cannot be opened here.

        With ``rows``, only metrics whose expectation depends on the number of samples are measured.
        """
        from evalsvc.evaluation.scoring import reduce, scores_of_rows
        from evalsvc.evaluation.shard_computation import compute_shard
        from evalsvc.inputs.suites import Suite

        labels = self.labels if rows is None else self.labels - unbiased_in_n(self.suite, self.labels)
        labels |= {whole_of(label) for label in labels}
        uses = [
            use
            for use in self.suite.metrics
            if any(use.label_of(quantity.name) in labels for quantity in self.suite.quantities_of(use))
        ] or list(self.suite.metrics[:1])  # where only shares of failures are gated, which scorers have by themselves
        body = self.suite.model_dump() | {"samples": samples, "neighbours": "", "metrics": uses, "index": {}}
        try:
            spec = self._spec(checkpoint, Suite.model_validate(body), self.suite.seed if seed is None else seed)
        except InputError:  # the look at all samples reports the reason, or uses stored scores
            return None
        if rows is None:
            advance = self.context.progress("samples", samples)
            for shard in spec.shards:
                compute_shard(spec, shard, self.context, advance)
        try:
            scores = reduce(spec, self.context).scores if rows is None else scores_of_rows(spec, self.context, rows)
        except MetricError:
            return None
        if spec.order and not spec.order.is_partial(self.suite.samples):
            # The parts of a set that is scored as a whole are comparable with the whole.
            scores = tuple(each.without("order") for each in scores)
        return {
            each.label: [
                Run.of(
                    each.score,
                    each.protocol,
                    each.facts,
                    seed=spec.seed,
                    influence=each.score.influence,
                    units=each.units.name,
                )
            ]
            for each in scores
        }

    def _spec(self, checkpoint: tables.Checkpoint, suite: Suite, seed: int) -> EvaluationSpec:
        from evalsvc.evaluation import service

        spec = service.plan_stored(self.context, checkpoint, suite, seed)
        if spec.configuration != checkpoint.configuration:
            raise InputError(
                f"{checkpoint.model.name}@{checkpoint.step} was scored by {checkpoint.generator!r} "
                f"{checkpoint.generator_version}, but {spec.generator_version} is installed: install the former, or "
                "score the checkpoint again"
            )
        return spec

    def stored(self, checkpoint: tables.Checkpoint, seed: int | None) -> int:
        """Number of seeds that were evaluated; with ``seed``, 1 if it was one of them and 0 otherwise."""
        return self._store.stored(checkpoint, seed)

    def why_nothing(self, checkpoint: tables.Checkpoint) -> Absent:
        """The checkpoint was never scored, or its evaluation failed."""
        return self._store.why_nothing(checkpoint)

    @cached_property
    def _store(self) -> Stored:
        context = self.context
        return Stored(
            context.database,
            self.suite,
            context.artifacts,
            self.labels,
            context.plugins,
            lambda: context,
            computes=True,
        )
