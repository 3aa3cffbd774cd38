"""Variance of the share of the reference that a generated set covers, estimated by splitting both sets in halves.

A share of covered points is not a mean over generated samples: radii, and which ball covers a point first, depend on
all of them. The jackknife counts such interactions several times over, and drawing with replacement collapses the
radii. But k-nearest-neighbor balls look the same at every scale: half of the generated set against half of the
reference, with the same k, is the same problem at half the size and twice the variance. Two disjoint generated halves
are independent, so half their mean squared difference is that variance without bias, and a quarter is the answer.

One sweep gives all that the halves need: who the nearest neighbors of each point are, and for each reference point
the balls that may cover it with the rank its distance would have among the neighbors of the ball's center. A ball
of a half covers the point where fewer than k of these nearer neighbors are in the same half. Splits are bits of a
word, so 64 of them cost one pass.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64, UInt64

from evalsvc.metrics.units import Units

Words = UInt64[np.ndarray, "n words"]

SPLITS = 256
CANDIDATES = 16
"""Covering balls kept for each point: that all of them fall in one half has a chance of 2 ** -15."""


def listed_neighbors(k: int) -> int:
    """Neighbors to keep so that k of them are in a point's own half but for one time in 10,000."""
    return 4 * k + 12


def share_differences(
    candidates: Int64[np.ndarray, "m candidates"],
    ranks: Int64[np.ndarray, "m candidates"],
    neighbors: Int64[np.ndarray, "centers listed"],
    units: Units,
    k: int,
    *,
    centered_on_reference: bool,
    times: int = 1,
) -> Float64[np.ndarray, " splits"]:
    """By how much one half of the generated ``units`` covers more of ``m`` reference points than the other, by split.

    The variance of the covered share over generated sets is a quarter of the mean square. The splits depend on the
    numbers of points and units alone, so that two scores over the same units are paired split by split.

    ``candidates`` are the generated samples (-1 for none) that cover a reference point, or are covered by its ball
    where ``centered_on_reference``; ``ranks`` the rank of the pair's distance among ``neighbors`` of the ball's center.
    A point covered by fewer than ``times`` counts by its share of them.
    """
    rng = np.random.default_rng(0)
    m = len(candidates)
    reference, generated = _halves(m, rng), _halves(units.count, rng)
    if units.owner is not None:
        generated = generated[units.owner]
    open_balls = _open_balls(neighbors, reference if centered_on_reference else generated, k)
    covers = open_balls[ranks, np.arange(m)[:, None] if centered_on_reference else candidates]
    covers[candidates < 0] = 0
    sides = generated[candidates]
    covered = [_at_least(covers & side, times) for side in (sides, ~sides)]
    sizes = m // 2 * times, (m - m // 2) * times
    first, second = (
        (_counts(covered[0] & half) - _counts(covered[1] & half)) / size
        for half, size in zip((reference, ~reference), sizes, strict=True)
    )
    return np.concatenate([first, second])


def _halves(n: int, rng: np.random.Generator) -> Words:
    """Bit s of row i says whether point i is in the first half of split s.

    Points are paired at random, again for each word, and each pair is parted by a coin: halves of equal size, cheaply.
    """
    halves = np.zeros((n, SPLITS // 64), np.uint64)
    for word in halves.T:
        pairs = rng.permutation(n)[: n // 2 * 2].reshape(2, -1)
        coins = rng.integers(0, 2**64, n // 2, np.uint64)
        word[pairs] = coins, ~coins
    return halves


def _open_balls(
    neighbors: Int64[np.ndarray, "n listed"], halves: Words, k: int
) -> UInt64[np.ndarray, "listed n words"]:
    """Bit s of [r, i]: fewer than k of the r nearest neighbors of i share its half of split s."""
    at_least = np.zeros((k, *halves.shape), np.uint64)
    balls = np.empty((neighbors.shape[1], *halves.shape), np.uint64)
    for rank, neighbor in enumerate(neighbors.T):
        balls[rank] = ~at_least[-1]
        same = ~(halves[neighbor] ^ halves)
        for count in range(k - 1, 0, -1):
            at_least[count] |= at_least[count - 1] & same
        at_least[0] |= same
    return balls


def _at_least(covers: UInt64[np.ndarray, "m candidates words"], times: int) -> UInt64[np.ndarray, "times m words"]:
    """Bit s of [t, i]: more than t of the candidates cover point i in split s."""
    at_least = np.zeros((times, len(covers), covers.shape[2]), np.uint64)
    for cover in covers.transpose(1, 0, 2):
        for count in range(times - 1, 0, -1):
            at_least[count] |= at_least[count - 1] & cover
        at_least[0] |= cover
    return at_least


def _counts(words: UInt64[np.ndarray, "times m words"]) -> Int64[np.ndarray, " splits"]:
    counts: Int64[np.ndarray, " splits"] = np.unpackbits(words.view(np.uint8), axis=2).sum((0, 1), dtype=np.int64)
    return counts
