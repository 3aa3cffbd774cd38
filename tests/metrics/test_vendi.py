import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vendi_score import vendi

from evalsvc.metrics import MetricError
from evalsvc.metrics.functional import vendi_score

ORDERS = [0, 0.5, 1.0, 2.0, math.inf]


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 60), d=st.integers(1, 20), seed=st.integers(0, 2**31), q=st.sampled_from([0.5, 1.0, 2.0, 3.5]))
def test_vendi_is_that_of_its_authors(n, d, seed, q):
    x = normal(seed, n, d)
    kernel = x @ x.T / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(x, axis=1))
    values = np.linalg.eigvalsh(kernel / n)
    peer = vendi.score_dual(x, q=q, normalize=True) if d < n else vendi.score_K(kernel, q=q)
    # Below q = 1 the peer counts the rounding noise of eigenvalues that are zero.
    tolerance = 1e-9 if q >= 1 else 1e-5
    assert vendi_score(x, q).value == pytest.approx(peer, rel=tolerance)
    assert vendi_score(x, math.inf).value == pytest.approx(1 / values[-1], rel=1e-9)


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize(("n", "d"), [(1, 3), (6, 3), (3, 6), (50, 50)])
def test_vendi_of_equal_rows_is_one(q, n, d):
    assert vendi_score(np.full((n, d), 0.3), q).value == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize("d", [7, 12])
def test_vendi_of_orthonormal_rows_is_their_number(q, d):
    rows = np.linalg.qr(normal(0, d, d))[0][:7]
    assert vendi_score(rows, q).value == pytest.approx(7.0, rel=1e-9)
    assert vendi_score(np.repeat(rows, 5, axis=0), q).value == pytest.approx(7.0, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 40), d=st.integers(1, 12), seed=st.integers(0, 2**31), q=st.sampled_from(ORDERS))
def test_vendi_knows_neither_order_nor_length_nor_axes(n, d, seed, q):
    x = normal(seed, n, d)
    rotation = np.linalg.qr(normal(seed + 1, d, d))[0]
    lengths = 10.0 ** normal(seed + 2, n, 1)
    moved = (x * lengths)[::-1] @ rotation
    assert vendi_score(moved, q).value == pytest.approx(vendi_score(x, q).value, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), d=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_higher_orders_count_fewer(n, d, seed):
    counted = [vendi_score(normal(seed, n, d), q).value for q in (*ORDERS[:-1], 10.0, math.inf)]
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(counted))
    assert counted[-1] >= 1
    assert counted[0] <= min(n, d)


def test_primal_and_dual_agree():
    x = np.hstack([normal(0, 30, 10), np.zeros((30, 30))])
    for q in ORDERS[1:]:
        wide, narrow = vendi_score(x, q), vendi_score(x[:, :10], q)
        assert wide.value == pytest.approx(narrow.value, rel=1e-9)


def test_huge_and_tiny_rows_have_a_direction():
    x = normal(0, 30, 4) * 10.0 ** np.linspace(-300, 300, 30)[:, None]
    assert vendi_score(x).value == pytest.approx(vendi_score(normal(0, 30, 4)).value, rel=1e-9)


def test_vendi_says_why_it_has_no_standard_error():
    x = normal(0, 60, 30)
    assert "count" in vendi_score(x, 0).stderr_method
    assert "too small for its spectrum" in vendi_score(x).stderr_method
    assert "fewer than 20" in vendi_score(x[:10]).stderr_method
    assert "not apart" in vendi_score(normal(0, 400, 5), math.inf).stderr_method
    assert vendi_score(normal(0, 400, 5)).stderr > 0


def test_a_row_of_zeros_and_a_negative_order_are_refused():
    with pytest.raises(MetricError, match="row 1 of x is zero"):
        vendi_score(np.array([[1.0, 2.0], [0.0, 0.0]]))
    for q in (-1.0, math.nan):
        with pytest.raises(MetricError, match="give q >= 0"):
            vendi_score(np.eye(2), q)
