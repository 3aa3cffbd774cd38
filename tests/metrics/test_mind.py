import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsvc.metrics import MetricError
from evalsvc.metrics.functional import mind


def normal(seed, n, d=4, shift=0.0):
    return np.random.default_rng(seed).standard_normal((n, d)) + shift


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), d=st.sampled_from([1, 2, 4, 5, 8]), seed=st.integers(0, 2**31))
def test_mind_of_a_shift_is_three_times_its_squared_length(n, d, seed):
    x, shift = normal(seed, n, d), normal(seed + 1, 1, d)
    assert mind(x + shift, x, directions=40).value == pytest.approx(3 * float((shift**2).sum()), rel=1e-9)


def test_a_shift_of_every_feature_gives_3_d_mu_squared():
    x = normal(0, 100, 16)
    assert mind(x + 0.5, x, directions=1000).value == pytest.approx(3 * 16 * 0.25, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 40), d=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_mind_of_a_set_with_itself_is_zero_in_any_order(n, d, seed):
    x = normal(seed, n, d)
    assert mind(np.random.default_rng(seed).permutation(x), x, directions=20).value == pytest.approx(0, abs=1e-20)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 40), d=st.integers(1, 8), seed=st.integers(0, 2**31), a=st.floats(0.1, 10))
def test_mind_is_symmetric_and_grows_with_the_square_of_the_scale(n, d, seed, a):
    x, y = normal(seed, n, d), normal(seed + 1, n, d, 0.3)
    value = mind(x, y, directions=20).value
    assert mind(y, x, directions=20).value == pytest.approx(value, rel=1e-9)
    assert mind(a * x, a * y, directions=20).value == pytest.approx(a * a * value, rel=1e-9)


def test_in_one_dimension_mind_is_the_squared_transport_cost():
    x, y = normal(0, 30, 1), normal(1, 30, 1)
    assert mind(x, y).value == pytest.approx(3 * ((np.sort(x, 0) - np.sort(y, 0)) ** 2).mean(), rel=1e-12)


def test_the_larger_set_is_cut_without_a_view_to_its_order():
    x, y = normal(0, 100), np.sort(normal(1, 1000), axis=0)
    shuffled = np.random.default_rng(0).permutation(y)
    assert mind(x, y).n == 100
    assert mind(x, y).value == pytest.approx(mind(x, shuffled).value, rel=0.5)


def test_few_directions_say_how_noisy_they_are():
    x, y = normal(0, 200, 30), normal(1, 200, 30, 0.2)
    values = [mind(x, y, directions=10, seed=seed).value for seed in range(100)]
    told = np.mean([mind(x, y, directions=10, seed=seed).details["directions_stderr"] for seed in range(100)])
    assert told == pytest.approx(np.std(values), rel=0.25)


def test_what_is_missing_is_said():
    x = normal(0, 30)
    assert mind(x[:10], x).stderr is None
    with pytest.raises(MetricError, match="at least 1"):
        mind(x, x, directions=0)
    with pytest.raises(MetricError, match="NaN"):
        mind(x, np.full((30, 4), np.nan))
