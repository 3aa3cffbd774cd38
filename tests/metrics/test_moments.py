import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsvc.metrics import MetricError, Moments


def same(a, b, tolerance=1e-9):
    scale = float(b.covariance.abs().max())
    return (
        a.n == b.n
        and float((a.mean - b.mean).abs().max()) <= tolerance * (1 + float(b.mean.abs().max()))
        and float((a.covariance - b.covariance).abs().max()) <= tolerance * scale
    )


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(2, 60),
    d=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    offset=st.sampled_from([0.0, 1e3, 1e6]),
    data=st.data(),
)
def test_any_split_in_any_order_gives_the_moments_of_one_pass(n, d, seed, cuts, offset, data):
    x = np.random.default_rng(seed).standard_normal((n, d)) + offset
    shards = [part for part in np.split(x, sorted(min(cut, n) for cut in cuts)) if len(part)]
    first, *rest = data.draw(st.permutations(shards))
    merged = Moments.of(first)
    for shard in rest:
        merged.merge_state(Moments.of(shard))
    assert same(merged, Moments.of(x))


@settings(max_examples=50, deadline=None)
@given(n=st.integers(2, 3000), d=st.integers(1, 8), seed=st.integers(0, 2**32 - 1), width=st.sampled_from([32, 64]))
def test_moments_are_those_of_numpy(n, d, seed, width):
    x = np.random.default_rng(seed).standard_normal((n, d)).astype(f"f{width // 8}")
    moments = Moments.of(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(moments.mean, exact.mean(0), atol=1e-13)
    np.testing.assert_allclose(moments.covariance, np.cov(exact, rowvar=False).reshape(d, d), atol=1e-12)


def test_a_far_origin_costs_no_digits():
    x = np.random.default_rng(0).standard_normal((500, 3))
    np.testing.assert_allclose(Moments.of(x + 1e8).covariance, Moments.of(x).covariance, rtol=1e-6)


def test_update_and_blocks_are_the_same_pass():
    x = np.random.default_rng(0).standard_normal((5000, 3))
    assert same(Moments.of(x[:17]).update(x[17:]), Moments.of(x))
    assert same(Moments.of_blocks(torch.split(torch.from_numpy(x), 999)), Moments.of(x))


def test_single_rows_merge():
    x = np.random.default_rng(0).standard_normal((4, 3))
    moments = Moments.of(x[:1])
    for row in x[1:]:
        moments.update(row[None])
    assert same(moments, Moments.of(x))


def test_a_single_row_has_no_covariance():
    with pytest.raises(MetricError, match="at least 2 rows"):
        _ = Moments.of(np.ones((1, 3))).covariance


def test_the_factor_follows_the_covariance_also_where_it_is_singular():
    x = np.random.default_rng(0).standard_normal((50, 3))
    for rows in (x, np.hstack([x, x, np.zeros((50, 1))])):
        moments = Moments.of(rows)
        np.testing.assert_allclose(moments.factor.T @ moments.factor, moments.covariance, atol=1e-12)
        moments.update(2 * rows)
        np.testing.assert_allclose(moments.factor.T @ moments.factor, moments.covariance, atol=1e-12)


def test_moments_can_be_pickled_and_copied():
    moments = Moments.of(np.random.default_rng(0).standard_normal((50, 3)))
    assert same(pickle.loads(pickle.dumps(moments)), moments)
    copied = copy.copy(moments).update(np.ones((1, 3)))
    assert (copied.n, moments.n) == (51, 50)


def test_known_moments_come_back():
    x = np.random.default_rng(0).standard_normal((50, 3))
    assert same(Moments(50, x.mean(0), np.cov(x, rowvar=False)), Moments.of(x))


@pytest.mark.parametrize(
    ("n", "mean", "covariance"),
    [(0, np.zeros(2), np.eye(2)), (5, np.zeros(3), np.eye(2)), (5, np.zeros(2), np.ones((2, 3)))],
)
def test_moments_that_do_not_fit_together_are_refused(n, mean, covariance):
    with pytest.raises(MetricError, match="do not fit together"):
        Moments(n, mean, covariance)


def test_sets_of_unequal_width_do_not_merge():
    with pytest.raises(MetricError, match="3 and of 2 columns"):
        Moments.of(np.ones((2, 3))).merge_state(Moments.of(np.ones((2, 2))))
