"""Metrics that look at all pairs of rows do it in one pass, and none of them can tell."""

import numpy as np
import pytest
import torch

from evalsvc.metrics import pairs
from evalsvc.metrics.functional import (
    authenticity,
    density_coverage,
    kernel_distance,
    nearest_neighbors,
    neighbor_radii,
    prdc,
    precision_recall,
)


def normal(seed, n, d=12, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)


def asked(x, y):
    radii = neighbor_radii(y, 3)
    return [
        (kernel_distance, {"subsets": 6, "subset_size": 60}),
        (precision_recall, {"reference_radii": radii}),
        (kernel_distance, {"subsets": None, "kernel": "rbf", "sigma": 2.0}),
        (density_coverage, {"k": 4}),
        (prdc, {}),
        (authenticity, {"heldout": normal(2, 50)}),
        (kernel_distance, {"subsets": None, "degree": 2}),
    ]


@pytest.mark.parametrize(("n", "m"), [(150, 160), (80, 300)])
def test_together_they_find_bit_for_bit_what_each_finds_alone(n, m):
    x, y = normal(0, n), normal(1, m)
    alone = [function(x, y, **options) for function, options in asked(x, y)]
    plans = [function.plan(x, y, **options) for function, options in asked(x, y)]
    *together, neighbours = pairs.measure([*plans, nearest_neighbors.plan(x, y, k=3)])
    assert together == alone
    for found, expected in zip(neighbours, nearest_neighbors(x, y, k=3), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_pairs_of_two_sets_are_swept_once_for_all_who_ask(monkeypatch):
    swept = []

    def counted(x, y, *, symmetric=False, sweep=pairs.sweep):
        swept.append((len(x), len(y)))
        return sweep(x, y, symmetric=symmetric)

    monkeypatch.setattr(pairs, "sweep", counted)
    x, y, z = normal(0, 90), normal(1, 80), normal(2, 70)
    radii = neighbor_radii(y, 3)
    known = precision_recall.plan(x, y, reference_radii=radii)
    pairs.measure([known])
    assert sorted(swept) == [(80, 90), (90, 90)]  # what is known of the reference is not swept for
    swept.clear()
    pairs.measure([known, density_coverage.plan(x, y), kernel_distance.plan(x, y, subsets=None)])
    assert sorted(swept) == [(80, 80), (80, 90), (90, 90)]
    swept.clear()
    pairs.measure([precision_recall.plan(x, y), precision_recall.plan(x, z)])
    assert len(swept) == 6


def test_features_in_double_precision_keep_it_beside_those_who_need_less():
    x, y = (normal(seed, 60, dtype=np.float64) for seed in (0, 1))
    kernel, balls = pairs.measure([kernel_distance.plan(x, y, subsets=None), precision_recall.plan(x, y)])
    gram = lambda a, b: (a @ b.T / 12 + 1) ** 3  # noqa: E731
    off = ~np.eye(60, dtype=bool)
    truth = gram(x, x)[off].mean() + gram(y, y)[off].mean() - 2 * gram(x, y).mean()
    assert kernel.value == pytest.approx(truth, abs=1e-13)
    assert balls == precision_recall(x, y)


def test_a_kernel_is_as_exact_as_float32_features_allow_also_far_from_the_origin():
    x, y = (50 + normal(seed, 200, 64) for seed in (0, 1))
    wide = [torch.from_numpy(a).double() for a in (x, y)]
    truth = kernel_distance(*wide, subsets=None)
    found = kernel_distance(x, y, subsets=None)
    mean_kernel = (50.0**2 + 1) ** 3
    assert abs(found.value - truth.value) < 1e-11 * mean_kernel  # products that are not centred reach 5e-10
    assert found.stderr == pytest.approx(truth.stderr, rel=1e-6)
