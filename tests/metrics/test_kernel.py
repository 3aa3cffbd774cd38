import inspect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsvc.metrics import MetricError, distances, kernel, kernel_influence
from evalsvc.metrics.functional import kernel_distance
from evalsvc.metrics.units import Units
from tests.metrics.honesty import repeated


def normal(seed, n, d=6, shift=0.0, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((n, d)) + shift


def polynomial(a, b, degree=3, gamma=None, coef=1.0):
    return (a @ b.T * (gamma or 1 / a.shape[1]) + coef) ** degree


def rbf(a, b, sigma):
    return np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / (2 * sigma**2))


def mmd(xx, yy, xy, biased=False):
    if biased:
        return xx.mean() + yy.mean() - 2 * xy.mean()
    n, m = xy.shape
    return (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1)) - 2 * xy.mean()


def published_kid(x, y, subsets, size, seed):
    """Subsets as torch-fidelity draws them: one RandomState, generated first."""
    rng, values = np.random.RandomState(seed), []
    for _ in range(subsets):
        a = x[rng.choice(len(x), size, replace=False)]
        b = y[rng.choice(len(y), size, replace=False)]
        values.append(mmd(polynomial(a, a), polynomial(b, b), polynomial(a, b)))
    return np.mean(values), np.std(values)


def influence_by_definition(x, y, k):
    """The docstring's closed form with every pair written out."""
    n = len(x)
    witness = k(x, y).mean(1)
    pairs = k(x, x) - witness[:, None] - witness[None]
    off = pairs[~np.eye(n, dtype=bool)]
    rows = (k(x, x).sum(1) - np.diag(k(x, x))) / (n - 1) - witness
    first, second = rows.var(ddof=1), off.var()
    return math.sqrt(max(4 * first / n - 2 * second / n**2, 2 * first / n))


def reference_by_definition(x, y, k):
    """The error of the reference's rows, with every pair of rows but those of single pairs written out."""
    n, m = len(x), len(y)
    own = (k(y, y).sum(1) - np.diag(k(y, y))) / (m - 1)
    halves = [k(x[rows], y).mean(0) for rows in Units.of(n).halves]
    witness = k(x, y).mean(0)
    first, second = Units.of(m).disjoint_pairs(m)[:2]
    pairs = np.diag(k(y[first], y[second])) - witness[first] - witness[second]
    whole = 4 * (own - witness).var(ddof=1) - (halves[0] - halves[1]).var(ddof=1)
    noise = 2 * pairs.var(ddof=1) / m
    return math.sqrt(max(whole - noise, noise / 2) / m)


@pytest.mark.parametrize("one_by_one", [True, False])
def test_the_error_of_the_reference_is_that_of_its_rows_less_the_noise_of_the_samples(monkeypatch, one_by_one):
    monkeypatch.setattr(kernel, "_one_by_one", lambda *_: one_by_one)
    x, y = normal(0, 60), normal(1, 80, shift=0.1)
    score = kernel_distance(x, y, subsets=9, subset_size=20)
    places = kernel_influence.reference_witnesses(80)
    assert score.stderr_reference == pytest.approx(reference_by_definition(x, y[places], polynomial), rel=1e-5)
    # The distance is symmetric, and so is what each row does to it.
    monkeypatch.setattr(kernel, "_one_by_one", lambda *_: False)
    swapped = kernel_distance(y, x, subsets=None).influence
    assert score.reference.whole == pytest.approx(swapped.whole[places], abs=1e-6)


def test_the_same_rows_of_a_large_reference_tell_of_every_model(monkeypatch):
    monkeypatch.setattr(kernel_influence, "_WITNESSES", 100)
    y = normal(0, 300)
    scores = [kernel_distance(normal(1, n, shift=0.4), y, subsets=5, subset_size=50) for n in (60, 90)]
    difference = scores[0].reference.minus(scores[1].reference)
    assert difference.n == 300
    assert difference.variance < scores[0].reference.variance / 4
    monkeypatch.setattr(kernel_influence, "_WITNESSES", 300)
    everyone = kernel_distance(normal(1, 60, shift=0.4), y, subsets=5, subset_size=50)
    assert scores[0].stderr_reference == pytest.approx(everyone.stderr_reference, rel=0.25)


def test_few_rows_of_a_reference_tell_nothing_of_its_error():
    score = kernel_distance(normal(0, 40), normal(1, 19), subsets=None)
    assert (score.stderr_reference, score.reference_method) == (None, "none: fewer than 20 reference rows")
    assert score.stderr > 0


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kid_is_the_published_one_draw_by_draw(monkeypatch, one_by_one, dtype):
    monkeypatch.setattr(kernel, "_one_by_one", lambda *_: one_by_one)
    x, y = normal(0, 150).astype(dtype), normal(1, 130, shift=0.2).astype(dtype)
    score = kernel_distance(x, y, subsets=7, subset_size=50, seed=3)
    mean, std = published_kid(x.astype(np.float64), y.astype(np.float64), 7, 50, 3)
    assert score.value == pytest.approx(mean, rel=1e-6)
    assert score.details["std"] == pytest.approx(std, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(20, 60), m=st.integers(2, 60), d=st.integers(1, 8), seed=st.integers(0, 2**31), biased=st.booleans()
)
def test_all_pairs_agree_with_the_obvious_sums(n, m, d, seed, biased):
    x, y = normal(seed, n, d), normal(seed + 1, m, d, 0.3)
    plain = kernel_distance(x, y, subsets=None, biased=biased)
    assert plain.value == pytest.approx(mmd(polynomial(x, x), polynomial(y, y), polynomial(x, y), biased), abs=1e-9)
    assert plain.stderr == pytest.approx(influence_by_definition(x, y, polynomial), rel=1e-6)
    other = kernel_distance(x, y, subsets=None, degree=2, gamma=0.5, coef=0.1, biased=biased)
    xx, yy, xy = (polynomial(a, b, 2, 0.5, 0.1) for a, b in ((x, x), (y, y), (x, y)))
    assert other.value == pytest.approx(mmd(xx, yy, xy, biased), abs=1e-9)
    smooth = kernel_distance(x, y, subsets=None, kernel="rbf", sigma=2.0, biased=biased)
    xx, yy, xy = (rbf(a, b, 2.0) for a, b in ((x, x), (y, y), (x, y)))
    assert smooth.value == pytest.approx(mmd(xx, yy, xy, biased), abs=1e-12)


def test_tiles_do_not_show(monkeypatch):
    x, y = normal(0, 90), normal(1, 70, shift=0.1)
    whole = kernel_distance(x, y, subsets=4, subset_size=30)
    monkeypatch.setattr(distances, "block_side", lambda device: 17)
    tiled = kernel_distance(x, y, subsets=4, subset_size=30)
    assert tiled.value == pytest.approx(whole.value, rel=1e-11)
    assert tiled.stderr == pytest.approx(whole.stderr, rel=1e-9)


def test_some_witnesses_give_nearly_the_standard_error_of_all(monkeypatch):
    x, y = normal(0, 800), normal(1, 800, shift=0.2)
    monkeypatch.setattr(kernel, "_one_by_one", lambda *_: False)
    everyone = kernel_distance(x, y, subsets=20, subset_size=100)
    monkeypatch.setattr(kernel, "_one_by_one", lambda *_: True)
    monkeypatch.setattr(kernel, "_WITNESSES", 300)
    some = kernel_distance(x, y, subsets=20, subset_size=100)
    assert some.value == pytest.approx(everyone.value, rel=1e-11)
    assert some.stderr == pytest.approx(everyone.stderr, rel=0.15)


def test_separate_subsets_are_chosen_only_where_they_are_cheaper():
    assert not kernel._one_by_one(5_000, 5_000, 100, 1000)
    assert kernel._one_by_one(50_000, 50_000, 100, 1000)
    assert not kernel._one_by_one(50_000, 50_000, 0, 1000)


def test_kid_of_equal_laws_is_zero_on_average_and_may_be_negative():
    values = repeated(lambda s: kernel_distance(normal(s, 60), normal(s + 10_000, 60), subsets=None).value)
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values))
    assert min(values) < 0


def test_cmmd_of_a_set_with_itself_is_zero():
    x = normal(0, 50)
    assert kernel_distance(x, x, subsets=None, kernel="rbf", biased=True).value == pytest.approx(0.0, abs=1e-15)


def test_kid_takes_few_samples_without_a_standard_error():
    score = kernel_distance(normal(0, 2), normal(1, 2), subsets=None)
    assert score.stderr is None
    assert "fewer than 20" in score.stderr_method


def test_duplicates_and_constant_features_are_no_obstacle():
    x = np.ones((40, 3))
    assert kernel_distance(x, x, subsets=None).value == pytest.approx(0.0, abs=1e-12)
    assert kernel_distance(x, x, subsets=None).stderr == pytest.approx(0.0, abs=1e-7)


def test_integers_and_half_precision_are_promoted():
    x, y = (np.random.default_rng(s).integers(0, 5, (40, 3)) for s in (0, 1))
    expected = kernel_distance(x.astype(np.float64), y.astype(np.float64), subsets=None).value
    for dtype in (np.uint8, np.float16, np.int32):
        assert kernel_distance(x.astype(dtype), y.astype(dtype), subsets=None).value == pytest.approx(
            expected, abs=1e-6
        )


def test_what_is_missing_is_said():
    x = normal(0, 50)
    with pytest.raises(MetricError, match="lower subset_size, or give subsets=None"):
        kernel_distance(x, x)
    with pytest.raises(MetricError, match="at least 2"):
        kernel_distance(x, x, subsets=1, subset_size=10)
    with pytest.raises(MetricError, match="at least 2 rows"):
        kernel_distance(x[:1], x, subsets=None)
    with pytest.raises(MetricError, match="NaN"):
        kernel_distance(np.full((30, 3), np.nan), np.ones((30, 3)), subsets=None)
    with pytest.raises(MetricError, match="no kernel 'laplace'"):
        inspect.unwrap(kernel_distance)(x, x, subsets=None, kernel="laplace")
