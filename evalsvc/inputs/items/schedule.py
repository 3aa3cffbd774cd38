"""Which item and which draw each sample is: any first samples are a random part of whole items."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from evalsvc.plugins.rng import seeds_at

_GOLDEN = 0x9E3779B97F4A7C15
"""The golden ratio as a fraction of 2^64: its multiples are spread evenly (a Kronecker sequence)."""

Places = tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]
"""The row of the item set and the number of the draw of each sample."""


def by_item(items: int, draws: int, start: int, stop: int) -> Places:
    """Samples ``start`` to ``stop``: all ``draws`` of the first item, then of the next; then a further round of all."""
    rounds, rest = np.divmod(np.arange(start, stop), items * draws)
    rows, draw = np.divmod(rest, draws)
    return rows, rounds * draws + draw


def by_frequency(counts: Int64[np.ndarray, " items"], seed: int, start: int, stop: int) -> Places:
    """Samples ``start`` to ``stop`` of items with these frequencies: any range has them within a few samples.

    The item is the quantile of an evenly spread sequence that starts at a point given by the seed; the sum of
    ``counts`` is less than 2^31. An item's draws are numbered in the order of its samples.
    """
    from evalsvc.metrics.lazy_torch import torch

    first = np.uint64(2 * int(seeds_at(seed, torch.zeros(1, dtype=torch.int64))))
    points = (first + np.arange(stop, dtype=np.uint64) * np.uint64(_GOLDEN)) >> np.uint64(32)
    edges = np.cumsum(counts)
    rows = np.searchsorted(edges, (points.astype(np.int64) * int(edges[-1])) >> 32, side="right")
    order = np.argsort(rows, kind="stable")
    firsts = np.searchsorted(rows[order], np.arange(len(counts)))
    draws = np.empty(stop, np.int64)
    draws[order] = np.arange(stop) - firsts[rows[order]]
    return rows[start:stop], draws[start:stop]
