"""Distinct and repeated n-grams of a corpus: how much texts repeat each other, and how much each repeats itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from evalsvc.metrics.jackknife import jackknife, jackknifed
from evalsvc.metrics.ngram_index import MAX_ORDER, Corpus, Occurrences, check_order
from evalsvc.metrics.ratio import METHOD, ONE_DOCUMENT, influence_of, ratio_of_sums, variance_of
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.tokenizers import Tokenizer
from evalsvc.metrics.units import Groups, Units

SERIES = 12
"""Terms of the series that corrects the jackknife of a number of distinct things."""


def each_order(
    name: str, direction: Direction, unit: str, title: str, title_zh: str, *, unbiased_in_n: bool = False
) -> list[Quantity]:
    """The quantities of a metric that returns another one for each order ``n``."""
    return [
        Quantity(
            f"{name}_{n}",
            direction,
            unit,
            0.0,
            1.0,
            unbiased_in_n=unbiased_in_n,
            target="reference",
            title=title.format(n=n),
            title_zh=title_zh.format(n=n),
            order=n,
        )
        for n in range(1, MAX_ORDER + 1)
    ]


@metric(
    *each_order("distinct", Direction.HIGHER, "share of n-grams", "Distinct-{n}", "Distinct-{n}"),
    version=1,
    error_version=2,
)
def distinct_n(
    texts: Sequence[str], n: int = 2, tokenizer: Tokenizer | None = None, groups: Groups | None = None
) -> Score:
    """Distinct n-grams of the corpus over all its n-grams (Li et al., 2016), in (0, 1]. Higher is more diverse.

    n-grams never cross documents. The share falls as a corpus grows: compare equal numbers of documents. ``tokenizer``
    cuts a text into tokens, by default at white space, and into characters where the texts' script has no spaces
    (:func:`evalsvc.metrics.tokenizers.fitting`). The score is named after the order: ``distinct_2``.

    Raises:
        MetricError: there are no texts, none has ``n`` tokens, or ``n`` is not within 1 to 16.

    >>> distinct_n(["a b a b", "a b c"], 2).value
    0.6
    """
    corpus, occurrences = _of_order(texts, n, tokenizer, "distinct_n")
    name, totals = f"distinct_{n}", corpus.ngrams_per_document(n)
    distinct, total = len(occurrences.starts), int(totals.sum())
    units = Units.of(len(corpus), groups)
    if units.owner is not None:
        occurrences, totals = occurrences.by(units.owner, units.count), units.total(totals.astype(np.float64))
    if totals.max() == total:
        return score(name, distinct / total, None, n=len(corpus), method=ONE_DOCUMENT, units=units)
    if distinct == total:
        reason = "none: no n-gram occurs twice, so nothing tells how often one would"
        return score(name, 1.0, None, n=len(corpus), method=reason)
    only_here = occurrences.document[occurrences.starts[occurrences.documents_per_gram == 1]]
    left_out = (distinct - np.bincount(only_here, minlength=units.count)) / (total - totals)
    stderr = jackknife(left_out, _shared_variance(occurrences, units.count) / total**2)
    return jackknifed(name, distinct / total, left_out, stderr, units)


@metric(
    *each_order(
        "repetition",
        Direction.LOWER,
        "share of n-grams",
        "Repetition of {n}-grams",
        "{n} 元组重复率",
        unbiased_in_n=True,
    ),
    version=1,
    error_version=2,
)
def repetition(
    texts: Sequence[str], n: int = 4, tokenizer: Tokenizer | None = None, groups: Groups | None = None
) -> Score:
    """Share of n-grams that occurred earlier in the same document, in [0, 1). Lower is better.

    ``1 - sum over documents of distinct n-grams / sum over documents of n-grams``: a ratio of sums, so a document
    counts by its length, and one shorter than ``n`` tokens not at all. The score is named after the order:
    ``repetition_4``.

    Raises:
        MetricError: as :func:`distinct_n`.

    >>> repetition(["a b a b a", "a b c"], 2).value
    0.3333333333333333
    """
    corpus, occurrences = _of_order(texts, n, tokenizer, "repetition")
    totals = corpus.ngrams_per_document(n)
    distinct = np.bincount(occurrences.document, minlength=len(corpus))
    units = Units.of(len(corpus), groups)
    parts, wholes = (units.total(column.astype(np.float64)) for column in (totals - distinct, totals))
    value, moves = ratio_of_sums(parts, wholes)
    name = f"repetition_{n}"
    if moves is None:
        return score(name, value, None, n=len(corpus), method=ONE_DOCUMENT, units=units)
    influence = influence_of(moves, units)
    return score(
        name, value, math.sqrt(variance_of(moves)), n=len(corpus), method=METHOD, influence=influence, units=units
    )


def _of_order(texts: Sequence[str], n: int, tokenizer: Tokenizer | None, metric: str) -> tuple[Corpus, Occurrences]:
    check_order(n, metric)
    corpus = Corpus.of(texts, tokenizer, metric)
    *_, occurrences = corpus.orders(n)
    if not len(occurrences.gram):
        raise MetricError(f"{metric}: no text has {n} tokens; choose a smaller n or give longer texts")
    return corpus, occurrences


def _shared_variance(occurrences: Occurrences, documents: int) -> float:
    """Variance that the jackknife of the number of distinct n-grams counts more than once.

    For a number of distinct things the Hoeffding terms can be summed exactly: if m n-grams occur in the documents of S
    and nowhere else, they add ``(-1)^(|S|+1) m^2`` to an unbiased estimate of the variance, of which the jackknife has
    |S| = 1. The alternating series is damped by binomial tails, as Efron and Thisted (1976) damp theirs.
    """
    signature = np.random.default_rng(0).integers(2**64, size=documents, dtype=np.uint64)
    in_documents = occurrences.documents_per_gram
    sets = np.add.reduceat(signature[occurrences.document], occurrences.starts)
    total = 0.0
    for size in range(2, SERIES + 1):
        _, together = np.unique(sets[in_documents == size], return_counts=True)
        tail = sum(math.comb(SERIES, k) for k in range(size, SERIES + 1)) / 2**SERIES
        total += (-1) ** size * tail * float((together**2).sum())
    return total
