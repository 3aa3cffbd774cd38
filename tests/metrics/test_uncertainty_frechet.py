"""The error bars of Frechet distances, from equal to clearly different laws: docs/explanations/uncertainty.md."""

import functools

import numpy as np
import pytest

from evalsvc.metrics import Moments
from evalsvc.metrics.functional import frechet_distance, frechet_distance_infinity, mind
from tests.metrics.honesty import assert_honest

LAWS = {
    "normal": lambda rng, n, d: rng.standard_normal((n, d)),
    "laplace": lambda rng, n, d: rng.laplace(size=(n, d)) / 2**0.5,
}
MOVES = {"equal": (0.0, 1.0), "near": (0.1, 1.0), "wider": (0.1, 1.1), "far": (0.5, 1.2)}


@functools.cache
def mixing(d):
    return np.random.default_rng(4711).standard_normal((d, d)) / d**0.5


def drawn(rng, law, n, d, move="equal"):
    shift, scale = MOVES[move]
    return LAWS[law](rng, n, d) @ mixing(d) * scale + shift


@functools.cache
def reference(law, d):
    return Moments.of(drawn(np.random.default_rng(99), law, 40_000, d))


@pytest.mark.parametrize(
    ("law", "move", "n"),
    [
        ("normal", "equal", 600),
        ("normal", "near", 600),
        ("normal", "far", 600),
        ("laplace", "equal", 600),
        ("laplace", "wider", 600),
        ("normal", "near", 60),
    ],
)
def test_error_bars_of_fd_are_honest(law, move, n):
    d = 12
    # Over 300 draws a true coverage of 0.95 shows as anything from 0.915 to 0.98.
    assert_honest(lambda rng: frechet_distance(drawn(rng, law, n, d, move), reference(law, d)), coverage=(0.915, 0.985))


@pytest.mark.parametrize("move", ["equal", "far"])
@pytest.mark.parametrize("n", [24, 48])
def test_error_bars_of_fd_are_honest_with_fewer_rows_than_columns_in_the_sample_or_in_its_halves(n, move):
    assert_honest(
        lambda rng: frechet_distance(drawn(rng, "normal", n, 32, move), reference("normal", 32)),
        ratio=(0.85, 1.25),
        coverage=(0.91, 0.99),
    )


@pytest.mark.parametrize(("law", "move"), [("normal", "equal"), ("laplace", "wider")])
def test_error_bars_of_fd_infinity_cover_the_population_value(law, move):
    n, d = 800, 8
    shift, scale = MOVES[move]
    covariance = scale**2 * mixing(d).T @ mixing(d)
    truth = frechet_distance(Moments(10**9, np.full(d, shift), covariance), reference(law, d)).value
    assert_honest(
        lambda rng: frechet_distance_infinity(drawn(rng, law, n, d, move), reference(law, d)),
        truth,
        coverage=(0.915, 0.985),
    )


@pytest.mark.parametrize(("d", "power", "move"), [(4, 0.0, "equal"), (4, 0.0, "far"), (16, 1.0, "equal")])
def test_error_bars_of_mind_are_honest_and_as_skewed_as_a_squared_distance(d, power, move):
    deviations, (shift, scale) = np.arange(1, d + 1) ** -power, MOVES[move]
    target = np.random.default_rng(99).standard_normal((300, d)) * deviations

    def draw(rng):
        return mind((rng.standard_normal((300, d)) * scale + shift) * deviations, target, directions=16)

    assert_honest(draw, first_seed=1000)
