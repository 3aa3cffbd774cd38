"""Intervals where few directions count, at the levels that gates ask for: docs/explanations/uncertainty.md."""

import numpy as np
import pytest

from evalsvc.metrics import Moments
from evalsvc.metrics.functional import frechet_distance, kernel_distance
from tests.metrics.honesty import assert_scores_honest, repeated

STEEP = np.arange(1, 17) ** -1.0
"""Deviations whose squares fall as k^-2: nine tenths of the variance are in three directions."""
MOVES = {"equal": (0.0, 1.0), "one direction": (0.1, 1.0), "far": (0.3, 1.3)}


def drawn(seed, n, move, deviations=STEEP):
    shift, scale = MOVES[move]
    rows = np.random.default_rng(seed).standard_normal((n, 16)) * deviations * scale
    rows[:, : 1 if move == "one direction" else 16] += shift
    return rows


def assert_covered(scores):
    assert_scores_honest(scores, coverage=(0.925, 0.985))
    truth = np.mean([each.value for each in scores])
    for level, least in ((0.68, 0.63), (0.9, 0.86), (0.99, 0.965)):
        low, high = np.array([each.interval(level) for each in scores]).T
        assert np.mean((low <= truth) & (truth <= high)) >= least, level


@pytest.mark.parametrize("move", MOVES)
def test_intervals_of_frechet_distances_cover_where_few_directions_count(move):
    law = Moments(10**9, np.zeros(16), np.diag(STEEP**2))
    assert_covered(repeated(lambda seed: frechet_distance(drawn(seed, 300, move), law)))


@pytest.mark.parametrize("move", ["equal", "far"])
def test_intervals_of_kernel_distances_cover_where_few_directions_count(move):
    # Where they fall as k^-2, the error at equality is 1.18 times too large: it is never below the noise's own.
    reference = drawn(9999, 300, "equal", STEEP**0.5)
    assert_covered(repeated(lambda seed: kernel_distance(drawn(seed, 150, move, STEEP**0.5), reference, subsets=None)))
