import inspect
import math

import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image.fid import _compute_fid

from evalsvc.metrics import MetricError, Moments, transport
from evalsvc.metrics.functional import frechet_distance, frechet_distance_infinity

shapes = st.tuples(st.integers(2, 40), st.integers(2, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))


def normal(seed, n, d=5, shift=0.0, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((n, d)) + shift


def trace(*sets):
    return sum(float(np.var(x, axis=0, ddof=1).sum()) for x in sets)


def exact(x, y):
    """The distance by its definition in 60 digits."""
    with mpmath.workdps(60):
        a, b = (mpmath.matrix((each - each.mean(0)).tolist()) / mpmath.sqrt(len(each) - 1) for each in (x, y))
        cross = a * b.T
        gram = cross.T * cross if cross.rows >= cross.cols else cross * cross.T
        overlap = sum(mpmath.sqrt(abs(value)) for value in mpmath.eigsy(gram, eigvals_only=True))
        squares = sum(value**2 for value in list(a) + list(b))
        means = sum(mpmath.mpf(value) ** 2 for value in (x.mean(0) - y.mean(0)).tolist())
        return float(means + squares - 2 * overlap)


# --- what it must be ---


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_fd_of_a_set_with_itself_is_zero(shape):
    n, _, d, seed = shape
    x = normal(seed, n, d)
    for pair in ((x, x), (Moments.of(x), Moments.of(x)), (x, Moments.of(x)), (x, x[::-1])):
        assert 0 <= frechet_distance(*pair).value <= 1e-9


@settings(max_examples=40, deadline=None)
@given(shapes, st.floats(0.01, 100))
def test_fd_grows_with_the_square_of_the_scale(shape, a):
    n, m, d, seed = shape
    x, y = normal(seed, n, d), normal(seed + 1, m, d, 0.3)
    assert frechet_distance(a * x, a * y).value == pytest.approx(
        a**2 * frechet_distance(x, y).value, rel=1e-7, abs=1e-9 * a**2
    )


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_a_shift_adds_its_squared_length(shape):
    n, _, d, seed = shape
    x, shift = normal(seed, n, d), normal(seed + 1, 1, d)
    assert frechet_distance(x + shift, x).value == pytest.approx(float((shift**2).sum()), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_fd_knows_neither_axes_nor_order_nor_sides(shape):
    n, m, d, seed = shape
    x, y = normal(seed, n, d), normal(seed + 1, m, d, 0.3, 1.2)
    rotation = np.linalg.qr(normal(seed + 2, d, d))[0]
    value, near = frechet_distance(x, y).value, 1e-8 * trace(x, y)
    assert frechet_distance(x @ rotation, y @ rotation).value == pytest.approx(value, abs=near)
    assert frechet_distance(x[::-1], np.roll(y, 1, 0)).value == pytest.approx(value, abs=near)
    assert frechet_distance(y, x).value == pytest.approx(value, abs=near)


@settings(max_examples=25, deadline=None)
@given(shapes)
def test_arrays_and_moments_on_either_side_agree(shape):
    n, m, d, seed = shape
    x, y = normal(seed, n, d), normal(seed + 1, m, d, 0.3, 1.2)
    value, near = frechet_distance(x, y).value, 1e-8 * trace(x, y)
    for pair in ((Moments.of(x), y), (x, Moments.of(y)), (Moments.of(x), Moments.of(y))):
        assert frechet_distance(*pair).value == pytest.approx(value, abs=near)


def test_fd_of_two_normal_laws_with_one_basis_is_the_gap_of_their_deviations():
    wide, narrow = Moments(100, [0.0, 0.0], np.diag([4.0, 9.0])), Moments(100, [1.0, 0.0], np.diag([1.0, 1.0]))
    assert frechet_distance(wide, narrow).value == pytest.approx(1 + 1 + 4, rel=1e-12)


# --- against others ---

SPECTRUM = 10.0 ** -np.linspace(0, 12, 10)
CASES = {
    "many rows": (normal(0, 20), normal(1, 20, shift=0.4, scale=1.3)),
    "fewer rows than columns": (normal(0, 6, 12), normal(1, 8, 12)),
    "few rows, equal": (normal(0, 6, 12), normal(0, 6, 12)),
    "few against many": (normal(0, 6, 12), normal(1, 20, 12)),
    "many against few": (normal(0, 20, 12), normal(1, 6, 12)),
    "nearly equal": (normal(0, 20), normal(0, 20) * (1 + 1e-6 * normal(2, 20))),
    "far from the origin": (normal(0, 20, shift=1e4), normal(1, 20, shift=1e4, scale=1.3)),
    "wide spectrum": (normal(0, 20, 10) * SPECTRUM, normal(1, 20, 10) * SPECTRUM),
    "dead features": (normal(0, 20, 8) * (np.arange(8) < 4), normal(1, 20, 8) * (np.arange(8) < 4)),
    "one constant set": (np.ones((20, 4)), normal(0, 20, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_fd_is_exact_to_1e_9_of_the_traces(case):
    x, y = CASES[case]
    value = frechet_distance(x, y).value
    assert value >= 0
    assert value == pytest.approx(exact(x, y), abs=1e-9 * trace(x, y))


def test_near_equality_fd_keeps_its_leading_digits():
    x, y = CASES["nearly equal"]
    assert frechet_distance(x, y).value == pytest.approx(exact(x, y), rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_fd_agrees_with_torchmetrics_and_scipy_where_n_exceeds_d(seed):
    x, y = normal(seed, 400, 24), normal(seed + 50, 300, 24, 0.1, 1.1)
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    means = [torch.from_numpy(each.mean(0)) for each in (x, y)]
    peer = float(_compute_fid(means[0], torch.from_numpy(a), means[1], torch.from_numpy(b)))
    root = scipy.linalg.sqrtm(a @ b).real
    definition = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root)
    assert frechet_distance(x, y).value == pytest.approx(peer, rel=1e-9)
    assert frechet_distance(x, y).value == pytest.approx(definition, rel=1e-9)


def test_the_banded_congruence_is_the_product(monkeypatch):
    monkeypatch.setattr(transport, "_BAND", 3)
    x, y = Moments.of(normal(0, 50, 11)), Moments.of(normal(1, 50, 11))
    law = transport.Gaussian.of_moments(x)
    product = y.factor @ x.covariance @ y.factor.T
    np.testing.assert_allclose(law.within(y.factor).tril(), product.tril(), atol=1e-12)


# --- infinity ---


def test_fd_infinity_takes_the_bias_off():
    reference = Moments(10**9, np.zeros(8), np.eye(8))
    plain = [frechet_distance(normal(seed, 400, 8), reference).value for seed in range(40)]
    endless = [frechet_distance_infinity(normal(seed, 400, 8), reference).value for seed in range(40)]
    assert np.mean(plain) > 0.05
    assert abs(np.mean(endless)) < 0.2 * np.mean(plain)


def test_fd_infinity_tells_its_slope_and_fit():
    score = frechet_distance_infinity(normal(0, 1000, 8), Moments(10**9, np.zeros(8), np.eye(8)))
    # E|mean|^2 is d / n, and (d + 1) d / 4 n what the covariance adds for a normal law of unit covariance.
    assert score.details["slope"] == pytest.approx(8 + 9 * 8 / 4, rel=0.25)
    assert 0.7 < score.details["r2"] <= 1


def test_fd_infinity_does_not_depend_on_the_order_of_classes():
    x = np.sort(normal(0, 600, 4), axis=0)
    reference = normal(1, 600, 4)
    a = frechet_distance_infinity(x, reference)
    b = frechet_distance_infinity(np.random.default_rng(0).permutation(x), reference)
    assert a.value == pytest.approx(b.value, abs=a.stderr)


# --- edges ---


def test_without_samples_there_is_no_standard_error_and_the_reason_is_told():
    x, y = normal(0, 30), normal(1, 30)
    assert frechet_distance(x, y).stderr > 0
    for few in (Moments.of(x), x[:19]):
        score = frechet_distance(few, y)
        assert score.stderr is None
        assert score.ci_low is None
        assert score.stderr_method.startswith("none: ")


def test_constant_features_are_a_shift():
    score = frechet_distance(np.full((30, 3), 2.0), np.ones((30, 3)))
    assert score.value == pytest.approx(3.0)
    assert score.stderr == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8, np.int64])
def test_every_number_type_gives_the_float64_value(dtype):
    x, y = (np.random.default_rng(seed).integers(0, 50, (40, 3)).astype(dtype) for seed in (0, 1))
    expected = frechet_distance(x.astype(np.float64), y.astype(np.float64))
    assert frechet_distance(x, y).value == pytest.approx(expected.value, rel=1e-12)


def test_tensors_arrays_and_memory_maps_agree(tmp_path):
    x, y = normal(0, 60).astype(np.float32), normal(1, 60).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    value = frechet_distance(x, y)
    assert frechet_distance(torch.from_numpy(x), torch.from_numpy(y)) == value
    assert frechet_distance(np.load(tmp_path / "x.npy", mmap_mode="r"), y) == value


def test_duplicated_rows_are_no_obstacle():
    x = np.repeat(normal(0, 10, 20), 5, axis=0)
    assert math.isfinite(frechet_distance(x, normal(1, 60, 20)).stderr)


@pytest.mark.parametrize("rows", [24, 40])
def test_moments_of_a_single_row_are_no_reference(rows):
    with pytest.raises(MetricError, match="moments of 1"):
        frechet_distance(normal(0, rows, 32), Moments(1, np.zeros(32), np.eye(32)))


def test_misfits_are_refused_by_name():
    x = normal(0, 30)
    unchecked = inspect.unwrap(frechet_distance)
    with pytest.raises(MetricError, match="generated has 5 columns and reference has 4"):
        unchecked(x, x[:, :4])
    with pytest.raises(MetricError, match="at least 2 rows"):
        frechet_distance(x[:1], x)
    with pytest.raises(MetricError, match="at least 2 rows"):
        frechet_distance(Moments.of(x[:1]), x)
    with pytest.raises(MetricError, match="reference holds NaN"):
        frechet_distance(x, np.where(np.arange(150).reshape(30, 5) == 7, np.nan, x))
    with pytest.raises(MetricError, match="at least 100 rows"):
        frechet_distance_infinity(x, x)


def test_the_distance_with_ddof_0_follows_from_the_details():
    """StyleGAN-V and cd-fvd divide covariances by n; both sides of a published FVD have as many clips."""
    x, y = (np.random.default_rng(seed).standard_normal((500, 32)) * (1 + seed / 10) for seed in (0, 1))
    found = frechet_distance(x, y)
    gap, (first, second) = x.mean(0) - y.mean(0), (np.cov(z, rowvar=False, ddof=0) for z in (x, y))
    overlap = np.sqrt(np.linalg.eigvals(first @ second).real).sum()
    expected = gap @ gap + np.trace(first) + np.trace(second) - 2 * overlap
    assert found.details["mean_part"] + found.details["covariance_part"] * 499 / 500 == pytest.approx(expected)
