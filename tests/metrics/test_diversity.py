"""Claims about the diversity of draws."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from evalsvc.metrics.errors import MetricError
from evalsvc.metrics.functional import diversity


def draws(items, each, spread, seed=0, d=8):
    """Rows about a center of each item, and the items."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((items, 1, d))
    return (centers + spread * rng.standard_normal((items, each, d))).reshape(-1, d), np.repeat(np.arange(items), each)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_it_is_the_mean_over_items_of_the_mean_over_pairs(distance):
    x, items = draws(30, 5, 0.5)
    keep = np.flatnonzero((items != 3) | (np.arange(len(items)) % 2 == 0))  # item 3 has fewer draws
    order = keep[np.random.default_rng(1).permutation(len(keep))]
    by_item = []
    for item in range(30):
        rows = x[keep][items[keep] == item]
        table = cdist(rows, rows, distance)
        by_item.append(np.mean([table[i, j] for i, j in itertools.combinations(range(len(rows)), 2)]))
    found = diversity(x[order], items[order], distance=distance)
    assert found.value == pytest.approx(np.mean(by_item), rel=1e-9)
    assert found.stderr == pytest.approx(np.std(by_item, ddof=1) / np.sqrt(30), rel=0.05)


def test_equal_draws_have_none_however_different_the_items_are():
    x, items = draws(25, 4, 0.0)
    assert diversity(x, items).value == pytest.approx(0, abs=1e-12)
    assert diversity(x, items, distance="euclidean").value == pytest.approx(0, abs=1e-6)


def test_more_draws_of_an_item_estimate_the_same():
    few, many = (np.mean([diversity(*draws(40, each, 0.5, seed)).value for seed in range(40)]) for each in (2, 8))
    assert few == pytest.approx(many, rel=0.03)


def test_the_error_is_right_over_repeated_experiments():
    found = [diversity(*draws(50, 3, 0.5, seed)) for seed in range(300)]
    values = np.array([each.value for each in found])
    assert np.mean([each.stderr for each in found]) == pytest.approx(values.std(), rel=0.12)
    covered = [each.ci_low <= values.mean() <= each.ci_high for each in found]
    assert 0.92 <= np.mean(covered) <= 0.98
    assert (found[0].n, found[0].details["groups"]) == (150, 50)


def test_items_of_a_single_draw_are_left_out_and_counted():
    x, items = draws(25, 2, 0.5)
    lonely = diversity(np.concatenate([x, x[:1] + 1]), np.append(items, 99))
    assert lonely.value == pytest.approx(diversity(x, items).value)
    assert lonely.details["too_few_draws"] == 1
    with pytest.raises(MetricError, match="no item has two draws"):
        diversity(x, np.arange(len(x)))


def test_a_row_of_zeros_has_no_cosine():
    with pytest.raises(MetricError, match="row of zeros"):
        diversity(np.zeros((4, 2)), np.array([0, 0, 1, 1]))
