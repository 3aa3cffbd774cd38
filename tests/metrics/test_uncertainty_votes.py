"""Errors of ratings and rates from votes against redrawn raters, items and judgments; the sweeps are benchmarks."""

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


@pytest.mark.parametrize("accuracy", [0.6, 0.95])
def test_rates_of_people_and_judge_together_are_unbiased_and_narrower(accuracy):
    with unchecked():
        bias, ratio, covered, width, narrower = vote_errors.rates(300, 40, 300, accuracy)
    assert abs(bias) < 3 / 300**0.5
    assert 0.85 <= ratio <= 1.15
    assert 0.92 <= covered <= 0.98
    assert width < {0.6: 0.9, 0.95: 0.55}[accuracy]
    assert narrower == 1


def test_alpha_covers_that_of_other_items():
    with unchecked():
        assert 0.91 <= vote_errors.alphas(150, 3, 60, 0.3, 0.3) <= 0.99
