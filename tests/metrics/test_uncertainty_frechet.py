"""The error bars of Frechet distances, from equal to clearly different laws: docs/explanations/uncertainty.md."""

import functools

import numpy as np
import pytest

from evalsvc.metrics import Moments
from evalsvc.metrics.functional import frechet_distance, frechet_distance_infinity, mind
from tests.metrics.honesty import assert_honest, repeated

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


@functools.cache
def falling(power, d):
    return np.arange(1, d + 1) ** (-power / 2)


@pytest.mark.parametrize(("power", "d", "n", "draws"), [(1.0, 256, 600, 12), (2.0, 48, 300, 40)])
def test_the_error_of_fd_is_that_of_double_precision_where_variances_fall(power, d, n, draws):
    deviations = falling(power, d)
    target = Moments(10**9, np.zeros(d), np.diag(deviations**2))

    def draw(i):
        return frechet_distance(np.random.default_rng(i).standard_normal((n, d)) * deviations, target)

    scores = repeated(draw, draws)
    spread = np.std([score.value for score in scores], ddof=1)
    # Of 12 normal values the spread is known within 20 %, of 40 skewed ones within 15 %.
    assert np.mean([score.stderr for score in scores]) == pytest.approx(spread, rel=0.45)


def losses(value, rows, left_out):
    """(n - 1) times what a value of ``rows`` loses without each of the rows ``left_out``, beside the first of these."""
    values = np.array([value(np.delete(rows, row, 0)) for row in left_out])
    return (len(rows) - 1) * (values[0] - values)


@pytest.mark.parametrize(("power", "d", "n"), [(1.0, 128, 300), (2.0, 48, 300), (0.0, 40, 41), (1.0, 64, 40)])
def test_the_influence_of_a_sample_is_what_the_distance_loses_without_it(power, d, n):
    x = np.random.default_rng(0).standard_normal((n, d)) * falling(power, d) * 1.2 + 0.1
    target, rows = Moments(10**9, np.zeros(d), np.diag(falling(power, d) ** 2)), range(0, n, n // 6)
    psi = frechet_distance(x, target).influence.whole
    expected = losses(lambda rest: frechet_distance(Moments.of(rest), target).value, x, rows)
    assert psi[rows] - psi[0] == pytest.approx(expected, abs=1e-3 * float(psi.std()))


@pytest.mark.parametrize("n", [40, 400])
def test_the_influence_of_a_reference_row_is_what_the_distance_loses_without_it(n):
    d, m = 64 if n == 40 else 12, 90
    x, y = drawn(np.random.default_rng(0), "normal", n, d, "wider"), drawn(np.random.default_rng(1), "normal", m, d)
    psi, rows = np.empty(m), range(0, m, 15)
    psi[np.random.default_rng(m).permutation(m)] = frechet_distance(x, y).reference.whole
    expected = losses(lambda rest: frechet_distance(Moments.of(x), Moments.of(rest)).value, y, rows)
    assert psi[rows] - psi[0] == pytest.approx(expected, abs=1e-3 * float(psi.std()))


@pytest.mark.parametrize("scale", [1e-12, 2.0**30, 1e9])
@pytest.mark.parametrize("n", [30, 200])
def test_the_error_of_fd_grows_with_the_square_of_the_scale_at_any_scale(n, scale):
    x, y = (drawn(np.random.default_rng(seed), "laplace", rows, 40, "near") for seed, rows in ((0, n), (1, 150)))
    one, scaled = frechet_distance(x, y), frechet_distance(x * scale, y * scale)
    for name in ("value", "stderr", "stderr_reference"):
        assert getattr(scaled, name) == pytest.approx(getattr(one, name) * scale**2, rel=1e-5)


@pytest.mark.parametrize("rows", ["constant columns", "columns twice", "fewer rows than columns"])
def test_the_error_of_fd_takes_sets_of_lower_rank(rows):
    x, y = (drawn(np.random.default_rng(seed), "normal", 60, 20, "near") for seed in (0, 1))
    plain = frechet_distance(x, y)
    more = {"constant columns": np.ones, "columns twice": None, "fewer rows than columns": np.zeros}[rows]
    wide = [np.hstack([z, z]) / 2**0.5 if more is None else np.hstack([z, more((60, 60))]) for z in (x, y)]
    score = frechet_distance(*wide)
    assert (score.value, score.stderr) == pytest.approx((plain.value, plain.stderr), rel=1e-3)
    assert score.stderr_reference == pytest.approx(plain.stderr_reference, rel=1e-3)


@pytest.mark.parametrize(("move", "n", "m"), [("equal", 100, 900), ("far", 200, 100)])
def test_both_errors_of_fd_together_are_those_of_both_sets_redrawn(move, n, m):
    def draw(i):
        rng = np.random.default_rng(i)
        return frechet_distance(drawn(rng, "normal", n, 8, move), drawn(rng, "normal", m, 8))

    scores = repeated(draw, 150)
    # Of 150 values the spread is known within 12 %.
    total = np.mean([np.hypot(score.stderr, score.stderr_reference) for score in scores])
    assert total == pytest.approx(np.std([score.value for score in scores], ddof=1), rel=0.2)


def test_a_reference_without_samples_says_that_its_error_is_unknown():
    x, y = (drawn(np.random.default_rng(seed), "normal", 60, 4) for seed in (0, 1))
    known = frechet_distance(x, y, reference_moments=Moments.of(y))
    assert known == frechet_distance(x, y)
    for fixed in (Moments.of(y), y[:19]):
        score = frechet_distance(x, fixed)
        assert (score.stderr_reference, score.reference_method[:5]) == (None, "none:")
        assert score.stderr > 0


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


@pytest.mark.parametrize(("power", "n", "said"), [(0.0, 40, True), (0.0, 400, False), (3.0, 40, False)])
def test_a_distance_near_equality_says_where_samples_are_few_a_direction(power, n, said):
    x = np.random.default_rng(0).standard_normal((n, 40)) * falling(power, 40)
    law = Moments(10**9, np.zeros(40), np.diag(falling(power, 40) ** 2))
    assert ("samples a direction" in frechet_distance(x, law).stderr_method) == said
    assert "samples a direction" not in frechet_distance(x + 3, law).stderr_method


@pytest.mark.parametrize(("n", "d", "move"), [(64, 64, "collapsed"), (96, 64, "equal")])
def test_the_error_of_fd_holds_where_samples_are_hardly_more_than_features(n, d, move):
    scale = 0.6 if move == "collapsed" else 1.0
    law = Moments(10**9, np.zeros(d), np.eye(d))
    scores = [frechet_distance(np.random.default_rng(seed).standard_normal((n, d)) * scale, law) for seed in range(120)]
    # Of 120 values the spread is known within 13 %; the influence function gives 0.4 to 0.6 of a collapsed one.
    spread = np.std([score.value for score in scores], ddof=1)
    assert 0.8 <= np.mean([score.stderr for score in scores]) / spread <= 1.3
