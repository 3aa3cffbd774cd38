"""Compression ratio: how much a corpus repeats itself as bytes."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from evalsvc.metrics.jackknife import jackknife, left_out_influence
from evalsvc.metrics.ngram_index import check_texts
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.units import Groups, Units

GZIP_GROUPS = 10


@metric(
    Quantity(
        "compression_ratio",
        Direction.LOWER,
        "bytes per gzip byte",
        low=0.0,
        target="reference",
        title="Compression ratio",
        title_zh="压缩比",
    ),
    version=1,
    error_version=3,
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
    # Random, because the order of texts may carry their classes; the same for all sets of as many, which are paired.
    place = np.random.default_rng(units.count).permutation(units.count)
    block = np.searchsorted(cuts[1:], place[owner], side="right")
    left_out = np.array(
        [_bytes_per_gzip_byte([parts[i] for i in np.flatnonzero(block != each)]) for each in range(GZIP_GROUPS)]
    )
    stderr = jackknife(left_out, 0.0)
    half = float(stdtrit(GZIP_GROUPS - 1, 0.975)) * stderr
    return score(
        "compression_ratio",
        value,
        stderr,
        n=len(parts),
        method=f"jackknife over {GZIP_GROUPS} random groups of texts; up to 1.5 times too large",
        interval=(value - half, value + half),
        influence=replace(left_out_influence(left_out), student=True),
        units=units,
    )


def _bytes_per_gzip_byte(parts: Sequence[bytes]) -> float:
    joined = b" ".join(parts)
    return len(joined) / len(gzip.compress(joined, compresslevel=9, mtime=0))
