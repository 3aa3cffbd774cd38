"""Self-BLEU: how much the texts of a corpus repeat each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from evalsvc.metrics.jackknife import jackknife, jackknifed
from evalsvc.metrics.ngram_index import Corpus, Occurrences, check_order
from evalsvc.metrics.ngrams import each_order
from evalsvc.metrics.registry import metric, score
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.tokenizers import Tokenizer
from evalsvc.metrics.units import Groups, Units

SMOOTHING = 0.1
"""Number of matches of a precision without any match (smoothing method 1 of Chen and Cherry, 2014)."""


@metric(*each_order("self_bleu", Direction.LOWER, "BLEU", "Self-BLEU-{n}", "Self-BLEU-{n}"), version=1)
def self_bleu(
    texts: Sequence[str], n: int = 4, tokenizer: Tokenizer | None = None, groups: Groups | None = None
) -> Score:
    """Mean BLEU-n of each text against all the others (Zhu et al., 2018), in [0, 1]. Lower is more diverse.

    Uniform weights over the orders 1 to ``n``, smoothing method 1, closest reference length with ties to the shorter:
    NLTK's ``sentence_bleu`` to rounding, in linear time. A text without tokens scores 0. The value rises with the
    number of texts: compare equal numbers. The error counts both the spread between texts and the references they give
    to each other. The score is named after the order: ``self_bleu_4``.

    Raises:
        MetricError: there are fewer than two texts, none has tokens, or ``n`` is not within 1 to 16.

    >>> round(self_bleu(["a b c d", "a b c d", "x y z w"], 2).value, 6)
    0.666667
    """
    check_order(n, "self_bleu")
    corpus = Corpus.of(texts, tokenizer, "self_bleu", minimum=2)
    if not len(corpus.tokens):
        raise MetricError("self_bleu: no text has any token; give texts the tokenizer can cut")
    size, lengths = len(corpus), corpus.lengths
    matches = np.zeros((size, n))
    losses = []
    for order, occurrences in enumerate(corpus.orders(n)):
        clipped = _clip(occurrences)
        matches[:, order] = np.bincount(clipped.document, clipped.matches, minlength=size)
        shared = np.flatnonzero(clipped.loss)
        pair = clipped.supplier[shared] * size + clipped.document[shared]
        losses.append((pair, np.full(len(shared), order), clipped.loss[shared]))
    closest = _closest_other_length(lengths)
    scores = _bleu(matches, lengths, closest)
    value, name = float(scores.mean()), f"self_bleu_{n}"
    units = Units.of(size, groups)
    if size == 2:
        reason = "none: leaving one of two texts out leaves the other without a reference"
        return score(name, value, None, n=size, method=reason)
    if units.clustered:
        reason = units.too_few or "none: texts of one group are references of each other"
        return score(name, value, None, n=size, method=reason)

    pairs, row = np.unique(np.concatenate([pair for pair, _, _ in losses]), return_inverse=True)
    column, loss = (np.concatenate([part[i] for part in losses]) for i in (1, 2))
    lost = np.bincount(row * n + column, loss, minlength=len(pairs) * n).reshape(-1, n)
    supplier, user = np.divmod(pairs, size)
    drop = scores[user] - _bleu(matches[user] - lost, lengths[user], closest[user])
    left_out = (scores.sum() - scores - np.bincount(supplier, drop, minlength=size)) / (size - 1)
    _, either_way = np.unique(np.minimum(supplier, user) * size + np.maximum(supplier, user), return_inverse=True)
    shared_variance = float((np.bincount(either_way, drop) ** 2).sum()) / (size - 1) ** 2
    return jackknifed(name, value, left_out, jackknife(left_out, shared_variance), units)


@dataclass(frozen=True, slots=True)
class _Clipped:
    """For every (n-gram, document): matches among the others, who supplies the last of them, how many hang on him."""

    document: Int64[np.ndarray, " pairs"]
    matches: Int64[np.ndarray, " pairs"]
    supplier: Int64[np.ndarray, " pairs"]
    loss: Int64[np.ndarray, " pairs"]


def _clip(occurrences: Occurrences) -> _Clipped:
    """Counts clipped to the best of all other documents, from the three best counts of each n-gram."""
    gram, starts = occurrences.gram, occurrences.starts
    step = int(occurrences.count.max(initial=0)) + 1
    order = np.argsort(gram * step - occurrences.count, kind="stable")  # by n-gram, then the highest count first
    document, count = occurrences.document[order], occurrences.count[order]
    rank = np.arange(len(gram)) - starts[gram]
    beyond = np.minimum(starts + np.arange(3)[:, None], len(gram) - 1)
    best, second, third = np.where(np.arange(3)[:, None] < occurrences.documents_per_gram, count[beyond], 0)
    owner, runner_up, _ = document[beyond]
    return _Clipped(
        document=document,
        matches=(matches := np.minimum(count, np.where(rank == 0, second[gram], best[gram]))),
        supplier=np.where(rank == 0, runner_up[gram], owner[gram]),
        loss=matches - np.minimum(count, np.where(rank < 2, third[gram], second[gram])),
    )


def _closest_other_length(lengths: Int64[np.ndarray, " documents"]) -> Int64[np.ndarray, " documents"]:
    """For each document the length of the other one closest in length, the shorter of two."""
    ranked = np.sort(lengths)
    place = np.searchsorted(ranked, lengths)
    below, above = ranked[np.maximum(place - 1, 0)], ranked[np.minimum(place + 1, len(ranked) - 1)]
    longer = (place == 0) | ((place + 1 < len(ranked)) & (above - lengths < lengths - below))
    return np.where(longer, above, below)


def _bleu(
    matches: Float64[np.ndarray, "texts orders"],
    lengths: Int64[np.ndarray, " texts"],
    reference_lengths: Int64[np.ndarray, " texts"],
) -> Float64[np.ndarray, " texts"]:
    possible = np.maximum(lengths[:, None] - np.arange(matches.shape[1]), 1)
    precision = np.where(matches > 0, matches, SMOOTHING) / possible
    brevity = np.exp(np.minimum(1 - reference_lengths / np.maximum(lengths, 1), 0.0))
    return np.where(matches[:, 0] > 0, brevity * np.exp(np.log(precision).mean(axis=1)), 0.0)
