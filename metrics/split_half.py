"""Variance of the share of one set that another covers, estimated by splitting both sets in halves.

A share of covered points is not a mean over generated samples: radii, and which ball covers a point first, depend on
all of them. The jackknife counts such interactions several times over, and drawing with replacement collapses the
radii. But k-nearest-neighbor balls look the same at every scale: half of the generated set against half of the
reference, with the same k, is the same problem at half the size and twice the variance. Two disjoint generated halves
are independent, so half their mean squared difference is that variance without bias, and a quarter is the answer.

Two reference halves against one generated half differ by the error of the reference, and by how samples of both sets
interact, which the generated samples' error counts already. The interaction differs between two disjoint generated
halves, and what the reference adds does not: a quarter of the mean product of the two differences is left.

One sweep gives all that the halves need: who the nearest neighbors of each point are, and for each point
the balls that may cover it with the rank its distance would have among the neighbors of the ball's center. A ball
of a half covers the point where fewer than k of these nearer neighbors are in the same half. Splits are bits of a
word, so 64 of them cost one pass.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt8, UInt64

from evalsvc.metrics.influence import Influence
from evalsvc.metrics.units import Units

Words = UInt64[np.ndarray, "_ words"]
Balls = UInt64[np.ndarray, "listed n words"]
Shares = Float64[np.ndarray, "2 2 splits"]
"""By half of the generated set, half of the reference, and split."""

SPLITS = 256
CANDIDATES = 16
"""Covering balls kept for each point: that all of them fall in one half has a chance of 2 ** -15."""
_ROWS = 4096


def listed_neighbors(k: int) -> int:
    """Neighbors to keep so that k of them are in a point's own half but for one time in 10,000."""
    return 4 * k + 12


@dataclass(frozen=True)
class Halves:
    """Which half of its set each point is in, by split: by the numbers of points and units alone.

    Scores over the same units, and scores against the same reference, are thus paired split by split.
    """

    reference: Words
    generated: Words

    @classmethod
    def of(cls, m: int, units: Units) -> Halves:
        """Halves of ``m`` reference points and of the generated ``units``."""
        rng = np.random.default_rng(0)
        reference, generated = _halves(m, rng), _halves(units.count, rng)
        return cls(reference, generated if units.owner is None else generated[units.owner])


def shares(
    candidates: Int64[np.ndarray, "points candidates"],
    ranks: Int64[np.ndarray, "points candidates"],
    open_balls: Balls,
    points: Words,
    others: Words,
    *,
    centered_on_points: bool,
    times: int = 1,
) -> Shares:
    """The share of half the points that half of the other set covers: by half of the others, of the points, by split.

    ``candidates`` are the others (-1 for none) that cover a point, or are covered by its ball where
    ``centered_on_points``; ``ranks`` the rank of the pair's distance among the neighbors of the ball's center, and
    ``open_balls`` are those of the set that has the centers. A point covered by fewer than ``times`` counts by its
    share of them.
    """
    covers = open_balls[ranks, np.arange(len(candidates))[:, None] if centered_on_points else candidates]
    covers[candidates < 0] = 0
    sides = others[candidates]
    covered = [_at_least(covers & side, times) for side in (sides, ~sides)]
    return np.stack(
        [
            [sum(map(_counts, each & half)) / (times * np.maximum(_counts(half), 1)) for half in (points, ~points)]
            for each in covered
        ]
    )


def balls_a_sample(counts: Float64[np.ndarray, "m listed 2"], open_balls: Balls, halves: Words) -> Shares:
    """How many balls of half the reference hold a point: by half of the generated set, of the reference.

    ``counts`` are the points of two fixed halves of the generated set, by reference sample and by the rank that their
    distance would have among its neighbors, divided by the size of the half.
    """
    below = np.pad(counts.cumsum(1), ((0, 0), (1, 0), (0, 0)))
    found = np.zeros((2, 2, SPLITS))
    for start in range(0, len(counts), _ROWS):
        rows = slice(start, start + _ROWS)
        first = _bits(halves[rows])
        reach = functools.reduce(np.add, (_bits(ball[rows]) for ball in open_balls))
        for half in range(2):
            held = np.take_along_axis(below[rows, :, half], reach.astype(np.intp), axis=1)
            found[half] += (held * first).sum(0), (held * (1 - first)).sum(0)
    return found


def of_generated(shares: Shares) -> Float64[np.ndarray, " twice"]:
    """By how much one half of the generated units covers more than the other, by split.

    The variance over generated sets is a quarter of the mean square.
    """
    return np.concatenate([shares[0, 0] - shares[1, 0], shares[0, 1] - shares[1, 1]])


def of_reference(shares: Shares, m: int) -> Influence:
    """The error that redrawing the reference of ``m`` samples adds to a share."""
    by_reference = shares[:, 0] - shares[:, 1]
    splits, noise = (by_reference[0] + by_reference[1]) / 2, (by_reference[0] - by_reference[1]) / 2
    return Influence(m, splits=splits.astype(np.float32), noise=noise.astype(np.float32))


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


def open_balls(neighbors: Int64[np.ndarray, "n listed"], halves: Words, k: int) -> Balls:
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


def _counts(words: Words) -> Int64[np.ndarray, " splits"]:
    counts: Int64[np.ndarray, " splits"] = _bits(words).sum(0, dtype=np.int64)
    return counts


def _bits(words: Words) -> UInt8[np.ndarray, "n splits"]:
    return np.unpackbits(words.view(np.uint8), axis=1)
