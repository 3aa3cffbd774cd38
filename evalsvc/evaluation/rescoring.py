"""Rescoring of an evaluation from its stored shards, without its checkpoint and generator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy import func, select, update

from evalsvc.core.errors import EvalsvcError, InputError
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.first_samples import used_first_samples
from evalsvc.evaluation.recording import describe
from evalsvc.evaluation.runner import evaluate
from evalsvc.evaluation.scoring import reduce
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.evaluation.stored_shards import needs_generator
from evalsvc.evaluation.suite_resolution import resolve_suite
from evalsvc.inputs.suites import Suite
from evalsvc.metrics.score import MetricError
from evalsvc.store import names, queries, tables
from evalsvc.store.tables import Evaluation


def rescore(run: tables.Evaluation, suite: Suite, context: EvaluationContext) -> bool:
    """Score an evaluation with the current metrics and reference, if :func:`score_again` can."""
    try:
        score_again(run, suite, context)
    except (EvalsvcError, MetricError):
        return False
    return True


def score_again(run: tables.Evaluation, suite: Suite, context: EvaluationContext) -> int:
    """Score an evaluation with the current metrics and reference; return the id of the evaluation with its scores.

    It is the same evaluation if no metric, extractor or reference has changed since.

    Raises:
        InputError: a shard is missing or damaged, the suite differs, or the shards are the first samples of a larger
            set.
        EvalsvcError: an extractor or the reference cannot be opened.
        MetricError: a metric refuses the samples.
    """
    if used_first_samples(run.spec, context.artifacts):
        raise InputError("it took the first of its samples or prompts, or their number cannot be determined")
    try:
        old = EvaluationSpec.model_validate(run.spec)
        reference = opening.reference(context, suite.reference) if suite.reference else None
        spec = old.model_copy(
            update={
                "suite": suite,
                "extractors": {
                    label: opening.extractor(context, use).info.protocol for label, use in suite.extractors.items()
                },
                "scorers": {
                    label: opening.scorer(context, use, suite.modality).info.protocol
                    for label, use in suite.scorers.items()
                },
                "reference": {split: reference.digests[split] for split in old.reference} if reference else {},
                "reference_counts": {split: len(reference.split(split)) for split in old.reference}
                if reference
                else {},
            }
        )
        lost = any(needs_generator(spec, shard, context) for shard in spec.shards)
    except (ValidationError, KeyError):
        raise InputError("its suite, or the version that scored it, was another") from None
    if lost:
        raise InputError("some of its shards are missing or damaged: score the checkpoint")
    return evaluate(spec, context)


@dataclass(frozen=True)
class Rescored:
    """A stored evaluation with the one that has its scores now; without it, ``reason`` says why not."""

    name: str
    suite: str
    seed: int
    evaluation: int
    now: int | None
    reason: str = ""


def rescore_stored(context: EvaluationContext, suite: str | None = None) -> Iterator[Rescored]:
    """Score the current evaluations under a suite, or under every one, again from their shards, oldest first.

    Values stay equal bit for bit unless a metric's version rose; errors are those of the current metrics.
    """
    with context.database.read() as session:
        seed = Evaluation.spec["seed"].as_integer()
        newest = (
            select(func.max(Evaluation.id))
            .where(Evaluation.status == tables.Status.SUCCEEDED)
            .group_by(Evaluation.checkpoint_id, Evaluation.suite_id, seed)
        )
        if suite:
            name, _, version = queries.pick_suite(session, suite).partition("@")
            of_suite = tables.Suite.name == name, tables.Suite.version == int(version)
            newest = newest.join(Evaluation.suite).where(*of_suite)
        runs = list(session.scalars(select(Evaluation).where(Evaluation.id.in_(newest))))
        titles = names.titles(session, [run.checkpoint for run in runs])
    for run in sorted(runs, key=lambda run: run.id):
        named = f"{run.suite.name}@{run.suite.version}"
        who = titles[run.checkpoint_id], named, run.spec.get("seed", 0), run.id
        try:
            found = resolve_suite(named, context.database, context.plugins)
            yield Rescored(*who, score_again(run, found, context))
        except (EvalsvcError, MetricError) as error:
            yield Rescored(*who, None, str(error))


def restore(evaluation: int, context: EvaluationContext, *, may_compute: bool) -> None:
    """Rewrite the files of an evaluation for pages and gates, if its shards are intact or may be recomputed."""
    with context.database.read() as session:
        run = session.get_one(tables.Evaluation, evaluation)
    try:
        spec = EvaluationSpec.model_validate(run.spec)
        if spec.fingerprint != run.fingerprint:
            return  # under other versions of its metrics, they would not match its scores
        if not may_compute and any(needs_generator(spec, shard, context) for shard in spec.shards):
            return
        with context.artifacts.lock(f"locks/{spec.fingerprint}"):
            files = describe(reduce(spec, context).files, context.artifacts)
    except (EvalsvcError, MetricError, ValidationError, KeyError):
        return
    with context.database.write() as session:
        for file in files:
            same = update(tables.Artifact).where(tables.Artifact.path == file.path)
            session.execute(same.values(digest=file.digest, bytes=file.bytes))
