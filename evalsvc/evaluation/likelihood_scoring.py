"""Scorers of likelihoods: the candidates of each item are measured once, for any number of its draws."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from evalsvc.core.errors import ModelError
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.items import item_batch, request_of
from evalsvc.evaluation.shards import Shard
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.plugins import scoring, validation
from evalsvc.plugins.interfaces import Likelihood
from evalsvc.plugins.samples import SampleRequest, Texts, rows
from evalsvc.plugins.scorers import CandidateLikelihoods, ScoresLikelihoods
from evalsvc.plugins.scoring import Values, rows_of


def score_by_likelihood(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, labels: Iterable[str]
) -> dict[str, Values]:
    """Values of the samples of a shard by label, of the scorers of likelihoods among ``labels``."""
    values = {}
    for label in labels:
        use = spec.suite.scorers[label]
        scorer = opening.scorer(context, use, spec.suite.modality)
        if isinstance(scorer, ScoresLikelihoods):
            values[label] = _score(spec, shard, context, scorer)
            scoring.require_some(f"scorer {use.use!r}", values[label])
    return values


def _score(spec: EvaluationSpec, shard: Shard, context: EvaluationContext, scorer: ScoresLikelihoods) -> Values:
    items = item_batch(context, spec, shard.start, shard.stop, scorer.info.reads)
    firsts: dict[str, int] = {}
    places = [firsts.setdefault(each, row) for row, each in enumerate(items.ids)]
    chosen = list(firsts.values())
    batch = rows_of(items, chosen)
    request = request_of(context, spec, shard.start, shard.stop).take(chosen)
    candidates = scorer.candidates(batch)
    if len(candidates) != len(batch):
        raise ModelError(f"scorer {scorer.info.name!r} returned candidates of {len(candidates)} of {len(batch)} items")
    likelihoods = _measure(spec, context, candidates, request)
    values = scoring.score_likelihoods(scorer, likelihoods, batch)
    where = {row: place for place, row in enumerate(chosen)}
    return values.take([where[row] for row in places])


def _measure(
    spec: EvaluationSpec, context: EvaluationContext, candidates: tuple[tuple[str, ...], ...], request: SampleRequest
) -> list[CandidateLikelihoods]:
    """The likelihoods of all candidates of all items, in batches of candidates."""
    generator = opening.generator_of(context, spec)
    assert isinstance(generator, Likelihood)
    owners = [item for item, texts in enumerate(candidates) for _ in texts]
    texts = Texts(tuple(text for each in candidates for text in each))

    def measure(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        who = f"generator {spec.generator!r}"
        part = rows(texts, range(start, stop))
        found = validation.nll(generator, who, part, request.take(owners[start:stop]))
        counts = np.full(len(part), found.units) if isinstance(found.units, int) else found.units.cpu().numpy()
        return found.nats.cpu().double().numpy(), counts.astype(np.int64)

    parts = list(context.batches.over(0, len(texts), measure))
    nats, tokens = (np.concatenate([part[i] for part in parts] or [np.zeros(0)]) for i in (0, 1))
    ends = np.cumsum([len(each) for each in candidates])
    pairs = zip(np.split(nats, ends[:-1]), np.split(tokens.astype(np.int64), ends[:-1]), strict=True)
    return [CandidateLikelihoods(*pair) for pair in pairs]
