"""Likelihoods of documents or images: corpus ratios of sums, with errors that count documents as the sample.

Every score here is derived from one negative log-likelihood in nats and one count a document. The corpus value is
the ratio of the sums; the mean of per-document values is another number. Sums run in float64.

Standard errors are about documents drawn like these ones: evalsvc.metrics.ratio has the formula. ``groups`` has one
label a document where documents of a label (draws of one prompt) are not independent: they then count as one document.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Real

from evalsvc.metrics.arrays import as_vector
from evalsvc.metrics.ratio import METHOD, ONE_DOCUMENT, Vector, influence_of, ratio_of_sums, variance_of
from evalsvc.metrics.registry import Quantity, Ratio, metric, score
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from evalsvc.metrics.arrays import Array

NATS_PER_UNIT = Quantity(
    "nats_per_unit",
    Direction.LOWER,
    unit="nats per unit",
    unbiased_in_n=True,
    title="Nats per unit",
    title_zh="每单位奈特数",
    ratio=Ratio(density=True),
)
PERPLEXITY = Quantity(
    "perplexity",
    Direction.LOWER,
    unit="per token",
    low=1.0,
    unbiased_in_n=True,
    target="reference",
    title="Perplexity",
    title_zh="困惑度",
    beside=("distinct_2",),
    ratio=Ratio(exponential=True),
)
WORD_PERPLEXITY = Quantity(
    "word_perplexity",
    Direction.LOWER,
    unit="per word",
    low=1.0,
    unbiased_in_n=True,
    target="reference",
    title="Word perplexity",
    title_zh="词困惑度",
    ratio=Ratio(exponential=True),
)
BITS_PER_BYTE = Quantity(
    "bits_per_byte",
    Direction.LOWER,
    unit="bits per byte",
    low=0.0,
    unbiased_in_n=True,
    target="reference",
    title="Bits per byte",
    title_zh="每字节比特数",
    beside=("self_bleu_4",),
    ratio=Ratio(bits=True),
)
BITS_PER_DIM = Quantity(
    "bits_per_dim",
    Direction.LOWER,
    unit="bits per dimension",
    unbiased_in_n=True,
    target="reference",
    title="Bits per dimension",
    title_zh="每维比特数",
    ratio=Ratio(bits=True, density=True),
)
RATIOS = {each.name: each for each in (NATS_PER_UNIT, PERPLEXITY, WORD_PERPLEXITY, BITS_PER_BYTE, BITS_PER_DIM)}


def _difference(quantity: Quantity) -> Quantity:
    return Quantity(
        f"{quantity.name}_difference",
        Direction.NEUTRAL,
        quantity.unit,
        unbiased_in_n=True,
        target=0.0,
        title=f"{quantity.title} difference",
        title_zh=f"{quantity.title_zh}之差",
    )


@metric(PERPLEXITY, version=1, error_version=2)
def perplexity(
    nll: Real[Array, " documents"], tokens: Real[Array, " _documents"], groups: Groups | None = None
) -> Score:
    """Token perplexity of a corpus, ``exp(sum nll / sum tokens)``. Lower is better; 1 is the best possible.

    ``nll`` holds the negative log-likelihood of each document in nats, summed over its scored tokens, and ``tokens``
    how many tokens were scored. The interval is symmetric on the log scale.

    Raises:
        MetricError: lengths differ, a value is NaN, infinite or negative, a document without tokens has a
            likelihood, there are no tokens at all, or the perplexity exceeds what a float can hold.

    >>> round(perplexity(np.array([20.0, 10.0]), np.array([10, 5])).value, 6)
    7.389056
    """
    nats, units = _discrete("perplexity", nll, tokens, "tokens")
    orphans = int(np.count_nonzero(nats[units == 0]))
    if orphans:
        raise MetricError(f"perplexity: {orphans} documents have a likelihood but no tokens; count the scored tokens")
    return _exponential("perplexity", nats, units, groups)


@metric(WORD_PERPLEXITY, version=1, error_version=2)
def word_perplexity(
    nll: Real[Array, " documents"], words: Real[Array, " _documents"], groups: Groups | None = None
) -> Score:
    """Word perplexity of a corpus, ``exp(sum nll / sum words)``: comparable between tokenizers. Lower is better.

    ``words`` counts the words of each original text. The interval is symmetric on the log scale. Errors as
    :func:`perplexity`, but a text without words may have a likelihood.

    >>> round(word_perplexity(np.array([20.0, 10.0]), np.array([6, 4])).value, 6)
    20.085537
    """
    return _exponential("word_perplexity", *_discrete("word_perplexity", nll, words, "words"), groups)


@metric(BITS_PER_BYTE, version=1, error_version=2)
def bits_per_byte(
    nll: Real[Array, " documents"], bytes: Real[Array, " _documents"], groups: Groups | None = None
) -> Score:
    """Bits a byte of text, ``sum nll / (ln 2 * sum bytes)``: comparable between tokenizers. Lower is better, 0 best.

    ``bytes`` counts the UTF-8 bytes of each original text. Errors as :func:`word_perplexity`.

    >>> round(bits_per_byte(np.array([20.0, 10.0]), np.array([40, 20])).value, 6)
    0.721348
    """
    return _bits("bits_per_byte", *_discrete("bits_per_byte", nll, bytes, "bytes"), groups)


@metric(BITS_PER_DIM, version=1, error_version=2)
def bits_per_dim(
    nll: Real[Array, " samples"], dims: Real[Array, " _samples"] | float | int, groups: Groups | None = None
) -> Score:
    """Bits a dimension, ``sum nll / (ln 2 * sum dims)``. Lower is better.

    ``dims`` is the number of dimensions of every sample, or one number a sample. Negative values are possible: the
    density of a continuous model has no upper limit.

    Raises:
        MetricError: lengths differ, a value is NaN or infinite, a count is negative, or all counts are zero.

    >>> round(bits_per_dim(np.array([64.0, 128.0]), 64).value, 6)
    2.164043
    """
    return _bits("bits_per_dim", *_columns("bits_per_dim", nll, dims, "dims"), groups)


@metric(*map(_difference, RATIOS.values()), version=1)
def paired_difference(
    nll_a: Real[Array, " documents"],
    nll_b: Real[Array, " _documents"],
    units: Real[Array, " _documents"] | float | int,
    of: str = "nats_per_unit",
) -> Score:
    """How much higher model a's corpus ratio is than model b's on the same documents; below 0, a is better.

    Both models' likelihoods belong to the same documents in the same order, and ``units`` counts what both are
    divided by: tokens only where the two share a tokenizer, else words or bytes. The standard error takes the
    difference document by document, so what makes a document hard for both models cancels. ``of`` names the ratio:
    nats per unit, bits (``bits_per_byte``, ``bits_per_dim``), or the perplexities themselves. The quantity describes
    a pair and ranks nothing, so its direction is neutral. ``details`` holds both models' values.

    Raises:
        MetricError: as :func:`bits_per_dim`, or ``of`` is not one of the names above.

    >>> difference = paired_difference(np.array([20.0, 12.0]), np.array([19.0, 11.0]), np.array([10, 10]))
    >>> round(difference.value, 6), difference.stderr
    (0.1, 0.0)
    """
    ratio = RATIOS[of].ratio if of in RATIOS else None
    if ratio is None:
        raise MetricError(f"paired_difference: of={of!r} is unknown; choose one of {', '.join(RATIOS)}")
    name = f"{of}_difference"
    columns = _columns if ratio.density else _discrete
    nats_a, counts = columns(name, nll_a, units, "units")
    nats_b, _ = columns(name, nll_b, units, "units")
    (a, moves_a), (b, moves_b) = ratio_of_sums(nats_a, counts), ratio_of_sums(nats_b, counts)
    if ratio.exponential:
        values = slopes = (_exp(name, a), _exp(name, b))
    else:
        slope = 1 / math.log(2) if ratio.bits else 1.0
        values, slopes = (slope * a, slope * b), (slope, slope)
    moves = None if moves_a is None or moves_b is None else slopes[0] * moves_a - slopes[1] * moves_b
    return score(
        name,
        values[0] - values[1],
        None if moves is None else math.sqrt(variance_of(moves)),
        n=len(counts),
        method=ONE_DOCUMENT if moves is None else f"paired {METHOD}",
        details={"a": values[0], "b": values[1]},
    )


def _exponential(name: str, nats: Vector, counts: Vector, groups: Groups | None) -> Score:
    units = Units.of(len(nats), groups)
    mean, moves = ratio_of_sums(units.total(nats), units.total(counts))
    value = _exp(name, mean)
    if moves is None:
        return score(name, value, None, n=len(nats), method=ONE_DOCUMENT, units=units)
    spread = math.sqrt(variance_of(moves))
    reach = units.quantile * spread
    return score(
        name,
        value,
        value * spread,
        n=len(nats),
        method=f"{METHOD}, log scale",
        interval=(math.exp(mean - reach), _exp(name, mean + reach)),
        influence=influence_of(value * moves, units, logarithmic=True),
        units=units,
    )


def _bits(name: str, nats: Vector, counts: Vector, groups: Groups | None) -> Score:
    units = Units.of(len(nats), groups)
    value, moves = ratio_of_sums(units.total(nats) / math.log(2), units.total(counts))
    if moves is None:
        return score(name, value, None, n=len(nats), method=ONE_DOCUMENT, units=units)
    influence, error = influence_of(moves, units), math.sqrt(variance_of(moves))
    return score(name, value, error, n=len(nats), method=METHOD, influence=influence, units=units)


def _exp(name: str, nats: float) -> float:
    if nats > math.log(np.finfo(np.float64).max):
        raise MetricError(f"{name}: {nats:.0f} nats per unit exceed what exp can hold; report bits_per_byte instead")
    return math.exp(nats)


def _discrete(name: str, nll: Array, units: Array | float | int, label: str) -> tuple[Vector, Vector]:
    """Columns of a probability mass, whose negative logarithm is never below zero."""
    nats, counts = _columns(name, nll, units, label)
    if nats.min() < 0:
        raise MetricError(
            f"{name}: nll has negative values; pass negative log-likelihoods in nats, not log-likelihoods"
        )
    return nats, counts


def _columns(name: str, nll: Array, units: Array | float | int, label: str) -> tuple[Vector, Vector]:
    """Both inputs as checked float64 vectors of one length; a single count stands for every document."""
    nats = as_vector(nll, f"{name}: nll").cpu().numpy()
    column = np.full(len(nats), units) if isinstance(units, int | float) else units
    counts = as_vector(column, f"{name}: {label}").cpu().numpy()
    if len(nats) != len(counts):
        raise MetricError(
            f"{name}: {len(nats)} values of nll but {len(counts)} of {label}; pass one of each a document"
        )
    if counts.min() < 0:
        raise MetricError(f"{name}: {label} has negative values; pass counts")
    if counts.sum() == 0:
        raise MetricError(f"{name}: {label} are all zero; there is nothing to divide by")
    return nats, counts
