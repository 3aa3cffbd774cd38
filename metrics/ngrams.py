"""How much a set of texts repeats itself: within one text, between texts, and as bytes.

All four are statistics of the whole corpus, so their errors ask what other documents drawn like these would have
given, at this number of documents. Where documents act on each other (a shared n-gram is distinct once), leaving one
out also counts its effect on all the others; the plain jackknife of such effects is up to 40 % too large, because it
counts an effect shared by two documents twice. Both metrics concerned subtract the shared part, exactly and in linear
time.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import stdtrit

from evalsvc.metrics.influence import Influence
from evalsvc.metrics.ngram_index import MAX_ORDER, Corpus, Occurrences, Tokenizer, check_order, check_texts
from evalsvc.metrics.ratio import METHOD, ONE_DOCUMENT, Vector, influence_of, ratio_of_sums, variance_of
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.units import Groups, Units

SMOOTHING = 0.1
"""Number of matches of a precision without any match (smoothing method 1 of Chen and Cherry, 2014)."""

SERIES = 12
"""Terms of the series that corrects the jackknife of a number of distinct things."""

GZIP_GROUPS = 10

FEW = 100
"""Below this many documents the correction for shared effects takes too much and is left out."""


def _method(documents: int) -> str:
    if documents < FEW:
        return f"jackknife over documents; under {FEW} documents up to 1.5 times too large"
    return "jackknife over documents less effects shared between documents"


def _each_order(
    name: str, direction: Direction, unit: str, title: str, title_zh: str, *, unbiased_in_n: bool = False
) -> list[Quantity]:
    return [
        Quantity(
            f"{name}_{n}",
            direction,
            unit,
            0.0,
            1.0,
            unbiased_in_n=unbiased_in_n,
            title=title.format(n=n),
            title_zh=title_zh.format(n=n),
            order=n,
        )
        for n in range(1, MAX_ORDER + 1)
    ]


@metric(*_each_order("distinct", Direction.HIGHER, "share of n-grams", "Distinct-{n}", "Distinct-{n}"), version=1)
def distinct_n(
    texts: Sequence[str], n: int = 2, tokenizer: Tokenizer = str.split, groups: Groups | None = None
) -> Score:
    """Distinct n-grams of the corpus over all its n-grams (Li et al., 2016), in (0, 1]. Higher is more diverse.

    n-grams never cross documents. The share falls as a corpus grows: compare equal numbers of documents. ``tokenizer``
    cuts a text into tokens, by default at whitespace. The score is named after the order: ``distinct_2``.

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
    stderr = _jackknife(left_out, _shared_variance(occurrences, units.count) / total**2)
    return _jackknifed(name, distinct / total, left_out, stderr, units)


@metric(
    *_each_order(
        "repetition",
        Direction.LOWER,
        "share of n-grams",
        "Repetition of {n}-grams",
        "{n} 元组重复率",
        unbiased_in_n=True,
    ),
    version=1,
)
def repetition(
    texts: Sequence[str], n: int = 4, tokenizer: Tokenizer = str.split, groups: Groups | None = None
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


@metric(*_each_order("self_bleu", Direction.LOWER, "BLEU", "Self-BLEU-{n}", "Self-BLEU-{n}"), version=1)
def self_bleu(
    texts: Sequence[str], n: int = 4, tokenizer: Tokenizer = str.split, groups: Groups | None = None
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
    return _jackknifed(name, value, left_out, _jackknife(left_out, shared_variance), units)


@metric(
    Quantity(
        "compression_ratio",
        Direction.LOWER,
        "bytes per gzip byte",
        low=0.0,
        title="Compression ratio",
        title_zh="压缩比",
    ),
    version=1,
)
def compression_ratio(texts: Sequence[str], groups: Groups | None = None) -> Score:
    """UTF-8 bytes of the texts, joined by spaces, over the bytes of their gzip at level 9. Lower is more diverse.

    Compressed once (Shaib et al., 2024, without the second gzip of their package). gzip sees 32 KB at a time, so the
    order of texts matters a little, and so may the build of zlib. The ratio grows with the corpus: compare equal
    numbers of texts.

    Raises:
        MetricError: there are no texts, or all are empty.

    >>> compression_ratio(["the same words again"] * 100).value > 20
    True
    """
    check_texts(texts, "compression_ratio")
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    if not any(parts):
        raise MetricError("compression_ratio: every text is empty; there is nothing to compress")
    value = _bytes_per_gzip_byte(parts)
    if len(parts) < GZIP_GROUPS:
        reason = f"none: its jackknife leaves out one of {GZIP_GROUPS} groups of texts, and there are fewer texts"
        return score("compression_ratio", value, None, n=len(parts), method=reason)
    units = Units.of(len(parts), groups)
    owner = np.arange(len(parts)) if units.owner is None else units.owner
    cuts = np.linspace(0, units.count, GZIP_GROUPS + 1).astype(int)
    block = np.searchsorted(cuts[1:], owner, side="right")
    left_out = np.array(
        [_bytes_per_gzip_byte([parts[i] for i in np.flatnonzero(block != each)]) for each in range(GZIP_GROUPS)]
    )
    stderr = _jackknife(left_out, 0.0)
    half = float(stdtrit(GZIP_GROUPS - 1, 0.975)) * stderr
    return score(
        "compression_ratio",
        value,
        stderr,
        n=len(parts),
        method=f"jackknife over {GZIP_GROUPS} groups of neighbouring texts; up to 1.5 times too large",
        interval=(value - half, value + half),
        influence=replace(_influence_of(left_out), student=True),
        units=units,
    )


def _of_order(texts: Sequence[str], n: int, tokenizer: Tokenizer, metric: str) -> tuple[Corpus, Occurrences]:
    check_order(n, metric)
    corpus = Corpus.of(texts, tokenizer, metric)
    *_, occurrences = corpus.orders(n)
    if not len(occurrences.gram):
        raise MetricError(f"{metric}: no text has {n} tokens; choose a smaller n or give longer texts")
    return corpus, occurrences


def _jackknife(left_out: Vector, shared_variance: float) -> float:
    """Standard error from the values without each document; the correction never takes more than half of it."""
    n = len(left_out)
    variance = (1 - 1 / n) * float(((left_out - left_out.mean()) ** 2).sum())
    return math.sqrt(min(max(variance - (shared_variance if n >= FEW else 0.0), variance / 4), variance))


def _jackknifed(name: str, value: float, left_out: Vector, stderr: float, units: Units) -> Score:
    """A score with its jackknife error. Of a difference the shared effects are unknown: it keeps the larger error."""
    influence = replace(_influence_of(left_out), student=units.clustered)
    return score(name, value, stderr, n=units.rows, method=_method(units.count), influence=influence, units=units)


def _influence_of(left_out: Vector) -> Influence:
    n = len(left_out)
    return Influence(n, whole=((n - 1) * (left_out.mean() - left_out)).astype(np.float32))


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


def _bytes_per_gzip_byte(parts: Sequence[bytes]) -> float:
    joined = b" ".join(parts)
    return len(joined) / len(gzip.compress(joined, compresslevel=9, mtime=0))
