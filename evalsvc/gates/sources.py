"""Where evidence comes from: what is stored, or a workbench that computes what is not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, get_args

import numpy as np

from evalsvc.gates.evidence import Absent, Single
from evalsvc.gates.subjects import unbiased_in_n
from evalsvc.store import queries, tables
from evalsvc.store.queries import ScoreRow
from evalsvc.store.session import Database
from metrics.likelihood import Quotient, paired_difference
from metrics.score import MetricError

if TYPE_CHECKING:
    from evalsvc.spec import EvaluationSpec
    from evalsvc.suites import Half, Suite
    from evalsvc.workbench import Workbench

Runs = Mapping[str, Sequence[Single]]
"""The runs of each score, by its label."""
ROUNDING = 1e-9
"""Relative. Other orders of summation move a score by 1e-12, other samples by far more than this."""


class Source(Protocol):
    """Scores of checkpoints under one suite."""

    @property
    def computes(self) -> bool:
        """Whether more samples can be had."""

    def full(self, checkpoint: tables.Checkpoint, replicates: int, seed: int | None) -> Runs:
        """All samples of the suite under every seed that was ever run, ``seed`` among them and at least so many where
        the source can compute.
        """

    def part(
        self, checkpoint: tables.Checkpoint, samples: int, seed: int | None, rows: slice | None = None
    ) -> Runs | None:
        """The first samples of the suite, or some rows of them; ``None`` where they are too few for a metric."""

    def covariance(self, a: tables.Checkpoint, b: tables.Checkpoint, label: str) -> float:
        """How two checkpoints' scores vary together, where both are over the same documents; else 0."""

    def stored(self, checkpoint: tables.Checkpoint, seed: int | None) -> int:
        """How many full runs are there without computing."""

    def why_nothing(self, checkpoint: tables.Checkpoint) -> Absent:
        """Why a checkpoint has no scores."""


@dataclass(frozen=True)
class Stored:
    """Only what the database holds."""

    database: Database
    suite: Suite
    computes: bool = False

    def full(self, checkpoint: tables.Checkpoint, replicates: int, seed: int | None) -> Runs:
        """Scores of every seed that was run: leaving out those that were seen would choose among them.

        Seeds whose scores agree to rounding are one run: what was scored (files, greedy decoding) heeds no seed, and
        looking at it again makes nothing surer.
        """
        with self.database.read() as session:
            found = queries.replicates(session, checkpoint.id, self.suite.id)
        differing: dict[int, list[ScoreRow]] = {}
        for number, rows in found.items():
            if not any(_agree(rows, others) for others in differing.values()):
                differing[number] = rows
        return _by_label(differing)

    def part(
        self, checkpoint: tables.Checkpoint, samples: int, seed: int | None, rows: slice | None = None
    ) -> Runs | None:
        """Parts are never stored."""
        return None

    def covariance(self, a: tables.Checkpoint, b: tables.Checkpoint, label: str) -> float:
        """Unknown from the rows alone."""
        return 0.0

    def stored(self, checkpoint: tables.Checkpoint, seed: int | None) -> int:
        """How many seeds were run; of one given seed, whether it was."""
        with self.database.read() as session:
            found = queries.replicates(session, checkpoint.id, self.suite.id)
        return len(found) if seed is None else int(seed in found)

    def why_nothing(self, checkpoint: tables.Checkpoint) -> Absent:
        """Never scored, or failed."""
        who = f"{checkpoint.model.name}@{checkpoint.step}"
        with self.database.read() as session:
            for run in queries.evaluations(session, checkpoint.id):
                if f"{run.suite.name}@{run.suite.version}" == self.suite.id and run.status == tables.Status.FAILED:
                    return Absent("error", f"{who}: {run.error}")
        return Absent("missing", f"{who} has no scores under {self.suite.id}: score it first")


@dataclass(frozen=True)
class Computed:
    """Evaluates what is missing. Parts reuse the shards of earlier ones, and leave theirs for what comes after."""

    bench: Workbench
    suite: Suite
    labels: frozenset[str]
    computes: bool = True

    def full(self, checkpoint: tables.Checkpoint, replicates: int, seed: int | None) -> Runs:
        """Evaluate ``seed`` and as many more as are asked for, counted from it or the suite's, then read."""
        from evalsvc.evaluations import evaluate

        number = self.suite.seed if seed is None else seed
        wanted = number
        while self.stored(checkpoint, None) < replicates or (seed is not None and not self.stored(checkpoint, seed)):
            evaluate(self._spec(checkpoint, self.suite, wanted), self.bench)
            wanted += 1
        return self._store.full(checkpoint, replicates, seed)

    def part(
        self, checkpoint: tables.Checkpoint, samples: int, seed: int | None, rows: slice | None = None
    ) -> Runs | None:
        """The gated metrics on the first ``samples``; nothing of it is recorded as an evaluation.

        Of ``rows`` only those metrics are measured whose expectation their number moves.
        """
        from evalsvc.pipeline import compute_shard
        from evalsvc.reduction import reduce, scores_of_rows
        from evalsvc.suites import Suite

        labels = self.labels if rows is None else self.labels - unbiased_in_n(self.suite)
        uses = [
            use
            for use in self.suite.metrics
            if any(use.label_of(quantity.name) in labels for quantity in use.spec.quantities)
        ]
        body = self.suite.model_dump() | {"samples": samples, "neighbours": "", "metrics": uses, "index": {}}
        spec = self._spec(checkpoint, Suite.model_validate(body), self.suite.seed if seed is None else seed)
        if rows is None:
            advance = self.bench.progress("samples", samples)
            for shard in spec.shards:
                compute_shard(spec, shard, self.bench, advance)
        try:
            scores = reduce(spec, self.bench).scores if rows is None else scores_of_rows(spec, self.bench, rows)
        except MetricError:
            return None
        if spec.order and not spec.order.is_partial(self.suite.samples):
            # A part of a set that is scored whole is comparable with whatever the whole is.
            scores = tuple(each.without("order") for each in scores)
        return {
            each.label: [
                Single(
                    each.score.value,
                    each.score.stderr,
                    each.score.ci_low,
                    each.score.ci_high,
                    each.score.n,
                    each.protocol,
                    each.facts,
                    each.score.stderr_method,
                    seed=spec.seed,
                )
            ]
            for each in scores
        }

    def _spec(self, checkpoint: tables.Checkpoint, suite: Suite, seed: int) -> EvaluationSpec:
        from evalsvc.errors import InputError

        options: dict[str, Any] = checkpoint.options
        spec = self.bench.spec(self.bench.reopen(checkpoint), checkpoint.generator, options, suite, seed)
        if spec.configuration != checkpoint.configuration:
            raise InputError(
                f"{checkpoint.model.name}@{checkpoint.step} was scored by {checkpoint.generator!r} of "
                f"{checkpoint.generator_version}, and {spec.generator_version} is installed: install the former, or "
                "score the checkpoint anew"
            )
        return spec

    def covariance(self, a: tables.Checkpoint, b: tables.Checkpoint, label: str) -> float:
        """From the likelihoods of each document under both, as they are on disk."""
        use = next(
            use for use in self.suite.metrics if label in {use.label_of(each.name) for each in use.spec.quantities}
        )
        if use.metric not in get_args(Quotient) or use.features:
            return 0.0
        by = next(name for name in use.spec.inputs if name != "nll")
        (nats_a, units), (nats_b, _) = (self._nats(side, use.against, by) for side in (a, b))
        function = use.spec.function
        alone = [function(nats, units).stderr or 0.0 for nats in (nats_a, nats_b)]
        paired = paired_difference(nats_a, nats_b, units, of=cast(Quotient, use.metric)).stderr
        return 0.0 if paired is None else (alone[0] ** 2 + alone[1] ** 2 - paired**2) / 2

    def _nats(self, checkpoint: tables.Checkpoint, half: Half, by: str) -> tuple[np.ndarray, np.ndarray | int]:
        from evalsvc.pipeline import read_likelihoods

        found = read_likelihoods(self._spec(checkpoint, self.suite, self.suite.seed), self.bench, half)
        return found.nats, found.units(by)

    def stored(self, checkpoint: tables.Checkpoint, seed: int | None) -> int:
        """How many seeds were run; of one given seed, whether it was."""
        return self._store.stored(checkpoint, seed)

    def why_nothing(self, checkpoint: tables.Checkpoint) -> Absent:
        """Never scored, or failed."""
        return self._store.why_nothing(checkpoint)

    @property
    def _store(self) -> Stored:
        return Stored(self.bench.database, self.suite)


def _agree(rows: Sequence[ScoreRow], others: Sequence[ScoreRow]) -> bool:
    """Whether two runs gave the same scores, to the rounding of another order of summation."""
    return [row.label for row in rows] == [row.label for row in others] and all(
        math.isclose(a.value, b.value, rel_tol=ROUNDING, abs_tol=ROUNDING * (a.stderr or 0.0))
        for a, b in zip(rows, others, strict=True)
    )


def _by_label(runs: Mapping[int, Sequence[ScoreRow]]) -> Runs:
    found: dict[str, list[Single]] = {}
    for seed, rows in runs.items():
        for row in rows:
            single = Single(
                row.value,
                row.stderr,
                row.ci_low,
                row.ci_high,
                row.n,
                row.protocol,
                row.facts,
                row.stderr_method,
                row.evaluation_id,
                seed,
            )
            found.setdefault(row.label, []).append(single)
    return found
