"""Intervals that are as skewed as the statistic: exact laws first."""

import itertools
import math

import numpy as np
import pytest

from evalsvc.metrics.influence import Influence
from evalsvc.metrics.score import Direction, Score
from evalsvc.metrics.skewness import (
    Z95,
    Noise,
    end_to_end,
    frechet_noise,
    normal_quantile,
    of_quadratic,
    pairs_skewness,
    quantile,
    widths,
)


def influences(psi):
    return Influence(len(psi), whole=psi.astype(np.float32))


@pytest.mark.parametrize("level", [0.68, 0.9, 0.95, 0.99, 0.999])
def test_a_gamma_variable_is_covered_exactly_at_every_level(level):
    rng, z, freedom = np.random.default_rng(0), normal_quantile(level), 10
    # A mean square of ten normal variables: its deviation is proportional to its expectation, 1.
    values = rng.chisquare(freedom, 20_000) / freedom
    down, up = widths(1.0, (8 / freedom) ** 0.5, z)
    stderrs = values * (2 / freedom) ** 0.5
    covered = np.mean((values - down * stderrs <= 1) & (values + up * stderrs >= 1))
    assert covered == pytest.approx(level, abs=4 * (level * (1 - level) / len(values)) ** 0.5)


def test_an_interval_turns_with_its_skewness_and_nears_the_normal_one_without():
    assert widths(2.0, -0.7, Z95) == widths(2.0, 0.7, Z95)[::-1]
    assert widths(1.0, 0.0011, Z95) == pytest.approx((Z95, Z95), rel=2e-3)
    assert widths(1.0, 0.0, Z95) == (Z95, Z95)


@pytest.mark.parametrize("skewness", [-50.0, -1.0, 0.01, 1.5, 50.0])
def test_intervals_are_nested_and_finite_at_any_level(skewness):
    ends = [widths(1.0, skewness, z) for z in (0.0, 0.5, 1.0, 2.0, 5.0, 8.0, 20.0, 400.0)]
    assert all(math.isfinite(end) for pair in ends for end in pair)
    for narrow, wide in itertools.pairwise(ends):
        assert narrow[0] < wide[0]
        assert narrow[1] < wide[1]


@pytest.mark.parametrize("freedom", [1.0, 3.0, 19.0, math.inf])
def test_few_units_widen_a_skewed_interval_by_students_factor(freedom):
    factor = quantile(Z95, freedom) / Z95
    down, up = end_to_end(1.0, 0.6, (0.0, 0.0), Z95, freedom)
    assert (down, up) == pytest.approx(tuple(factor * side for side in widths(1.0, 0.6, Z95)))


def test_the_skewness_of_a_mean_is_its_third_cumulant():
    psi = np.random.default_rng(0).exponential(size=100_000) - 1
    stderr = len(psi) ** -0.5
    assert of_quadratic(influences(psi), stderr, Noise(0.0, 0.0)) == pytest.approx(2 * stderr, rel=0.1)


def test_the_noise_of_a_frechet_distance_is_that_of_many_draws():
    spectrum, n, rng = np.array([1.0, 0.3]), 400, np.random.default_rng(0)
    # Means and covariances of 20,000 normal samples by Bartlett's factor; a 2 x 2 root has its trace in closed form.
    factor = np.zeros((20_000, 2, 2))
    factor[:, 0, 0] = rng.chisquare(n - 1, 20_000) ** 0.5
    factor[:, 1, 1] = rng.chisquare(n - 2, 20_000) ** 0.5
    factor[:, 1, 0] = rng.standard_normal(20_000)
    factor *= (spectrum**0.5)[:, None] / (n - 1) ** 0.5
    traces = (factor**2).sum((1, 2)), ((factor * spectrum[:, None] ** 0.5) ** 2).sum((1, 2))
    roots = (traces[1] + 2 * factor[:, 0, 0] * factor[:, 1, 1] * spectrum.prod() ** 0.5) ** 0.5
    means = rng.standard_normal((20_000, 2)) * (spectrum / n) ** 0.5
    values = (means**2).sum(1) + traces[0] + spectrum.sum() - 2 * roots
    deviation, skewness, _ = frechet_noise(spectrum, n)
    assert deviation == pytest.approx(values.std(), rel=0.05)
    assert skewness == pytest.approx(((values - values.mean()) ** 3).mean() / values.std() ** 3, rel=0.1)


def test_the_noise_of_pairs_is_that_of_a_sum_of_weighted_squares():
    weights, x = np.array([1.0, 0.5, 0.2]), np.random.default_rng(0).standard_normal((500, 3))
    expected = 8 * (weights**3).sum() / (2 * (weights**2).sum()) ** 1.5
    kernel = (x * weights) @ x.T
    assert pairs_skewness(kernel + 7.0) == pytest.approx(expected, rel=0.2)
    assert pairs_skewness(1e100 * kernel) == pytest.approx(pairs_skewness(kernel))
    assert pairs_skewness(np.ones((20, 20))) == 0.0


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
def test_skewness_has_no_unit(scale):
    psi, roots = np.random.default_rng(0).standard_normal(50), np.array([0.0, 1.0, 3.0])
    deviation, skewness, _ = frechet_noise(scale**2 * roots, 50)
    assert skewness == pytest.approx(frechet_noise(roots, 50)[1])
    found = of_quadratic(influences(scale**2 * psi), 0.2 * scale**2, Noise(deviation, skewness))
    assert found == pytest.approx(of_quadratic(influences(psi), 0.2, frechet_noise(roots, 50)))


def test_a_score_reaches_further_where_errors_are_larger_at_any_level():
    down, up = widths(1.0, 0.8, Z95)
    score = Score("x", 5.0, 1.0, 5 - down, 5 + up, 100, Direction.LOWER, "", "", skewness=0.8)
    assert score.interval(0.95) == pytest.approx((5 - down, 5 + up))
    narrow, wide = score.interval(0.9), score.interval(0.99)
    assert wide[0] < narrow[0] < 5 < narrow[1] < wide[1]
    assert wide[1] - 5 > 2 * (5 - wide[0])
