"""Errors of scores of items against simulated truth, alone and paired; benchmarks/item_errors.py holds more draws."""

import math

import numpy as np
import pytest

from benchmarks.item_errors import Task, mean_passed, pass_at_2
from evalsvc.metrics.influence import paired
from evalsvc.metrics.intervals import bounds
from tests.metrics.honesty import repeated

DRAWS = 100


@pytest.mark.parametrize("aggregate", [mean_passed, pass_at_2])
def test_errors_by_group_are_those_of_new_items_alone_and_paired(aggregate):
    def draw(seed):
        task = Task(seed, 240, grouped=True)
        a, b = aggregate(task, 0), aggregate(task, 1)
        return (a.value, a.stderr), (b.value - a.value, paired(b.influence, a.influence))

    alone, gaps = zip(*repeated(draw, DRAWS), strict=True)
    for values, errors in (np.array(alone).T, np.array(gaps).T):
        assert 0.85 < errors.mean() / values.std(ddof=1) < 1.2
        assert np.mean(np.abs(values - values.mean()) < 2.05 * errors) >= 0.9
    assert np.mean(gaps, axis=0)[1] < 0.85 * np.mean(alone, axis=0)[1]


def test_the_interval_of_20_flags_covers_any_share():
    hits = np.arange(21)
    every = [bounds(k / 20, (k * (20 - k) / 400 / 19) ** 0.5 or 1 / 20, 20, (0.0, 1.0), binomial=True) for k in hits]
    low, high = np.array(every).T
    shares = np.linspace(0.001, 0.999, 200)
    ways = np.array([math.comb(20, k) for k in hits])
    coverage = [(ways * p**hits * (1 - p) ** (20 - hits)) @ ((low <= p) & (p <= high)) for p in shares]
    assert min(coverage) > 0.93
