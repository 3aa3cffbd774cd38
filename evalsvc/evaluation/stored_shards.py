"""Shards as they are stored: the identity of their samples, and whether a generator is needed to complete them."""

from __future__ import annotations

from evalsvc.core.errors import DamagedError
from evalsvc.core.files.verification import report
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.item_values import missing_values
from evalsvc.evaluation.kept_samples import Identity, Kept, kept_key, read_kept
from evalsvc.evaluation.shards import Shard
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.plugins.scorers import ScoresLikelihoods

NOTHING = Identity("none", "none")
"""Identity of the samples of a suite in which nothing needs any."""


def identity_of(spec: EvaluationSpec, shard: Shard, context: EvaluationContext) -> Identity | None:
    """The identity of a shard's samples; ``None`` if its file is missing or damaged, or of a version without it."""
    key = spec.shard_key(shard)
    if not context.artifacts.exists(key):
        return None
    try:
        metadata = context.artifacts.read_metadata(key)
        return Identity.of(metadata) if spec.suite.scorers else NOTHING
    except DamagedError as error:
        report(error)
    except KeyError:  # from before its suite had scorers
        pass
    return None


def needs_generator(spec: EvaluationSpec, shard: Shard, context: EvaluationContext) -> bool:
    """Whether a shard cannot be completed from its files and the samples that are kept."""
    if shard.kind != "samples":
        return not context.artifacts.is_sound(spec.shard_key(shard))
    there = identity_of(spec, shard, context)
    due = (
        list(spec.suite.scorers)
        if there is None
        else missing_values(context, spec, shard, identities(context, spec, there))
    )
    if any(is_by_likelihood(spec, context, label) for label in due):
        return True
    if there is not None and not due:
        return False
    kept = kept_whole(spec, shard, context) if spec.keeps_samples else None
    return kept is None or there not in (None, kept.identity)


def identities(context: EvaluationContext, spec: EvaluationSpec, there: Identity) -> dict[str, str]:
    """The identity of the samples for each scorer, by label."""
    return {
        label: there.for_scorer(opening.scorer(context, use, spec.suite.modality).info.reads)
        for label, use in spec.suite.scorers.items()
    }


def kept_whole(spec: EvaluationSpec, shard: Shard, context: EvaluationContext) -> Kept | None:
    """The kept samples of a shard, if all of them were kept."""
    kept = read_kept(context.artifacts, kept_key(spec, shard))
    return kept if kept and kept.whole else None


def is_by_likelihood(spec: EvaluationSpec, context: EvaluationContext, label: str) -> bool:
    """Whether the scorer with this label scores likelihoods instead of samples."""
    return isinstance(opening.scorer(context, spec.suite.scorers[label], spec.suite.modality), ScoresLikelihoods)
