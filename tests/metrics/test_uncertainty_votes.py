"""Errors of ratings and rates from votes against redrawn raters, items and verdicts; the sweeps are benchmarks."""

import pytest

from benchmarks import vote_errors
from tests.shapes import unchecked

DRAWS = 50


@pytest.mark.parametrize(
    ("raters", "items", "each", "ties", "taste", "fit"),
    [
        (12, 30, 30, 0.3, 0.7, 0.7),
        (40, 30, 15, 0.6, 0.7, 0.7),
        (12, 100, 30, 0.0, 1.2, 0.3),
        (1, 200, 200, 0.3, 0.0, 0.7),
    ],
)
def test_intervals_of_ratings_hold_for_other_raters_and_items(raters, items, each, ties, taste, fit):
    with unchecked():
        ratio, covered = vote_errors.cell(DRAWS, raters, items, each, ties, taste, fit)
    assert 0.85 <= ratio <= 1.15
    assert 0.91 <= covered <= 0.99
