"""The error bars of kernel distances, from equal to clearly different laws: docs/explanations/uncertainty.md."""

import numpy as np
import pytest

from evalsvc.metrics.functional import kernel_distance
from tests.metrics.honesty import assert_honest, repeated

LAWS = {
    "normal": lambda rng, n: rng.standard_normal((n, 32)),
    "laplace": lambda rng, n: rng.laplace(size=(n, 32)) / 2**0.5,
}
FORMS = {
    "all pairs": {"subsets": None},
    "subsets": {"subsets": 50, "subset_size": 100},
    "CMMD": {"subsets": None, "kernel": "rbf", "sigma": 4.0, "biased": True},
}
MOVES = {"equal": (0.0, 1.0), "near": (0.05, 1.0), "far": (0.3, 1.1)}


@pytest.mark.parametrize(
    ("law", "move", "form"),
    [(law, move, "all pairs") for law in LAWS for move in MOVES]
    + [("normal", "equal", "subsets"), ("laplace", "far", "subsets")]
    + [("normal", "near", "CMMD"), ("laplace", "far", "CMMD")],
)
def test_error_bars_of_kid_are_honest(law, move, form):
    shift, scale = MOVES[move]
    target = LAWS[law](np.random.default_rng(99), 400)
    assert_honest(
        lambda rng: kernel_distance(LAWS[law](rng, 250) * scale + shift, target, **FORMS[form]), coverage=(0.915, 0.985)
    )


@pytest.mark.parametrize(("n", "m", "shift"), [(80, 80, 0.0), (120, 60, 0.3)])
def test_both_errors_of_kid_together_are_those_of_both_sets_redrawn(n, m, shift):
    def draw(i):
        rng = np.random.default_rng(i)
        return kernel_distance(rng.standard_normal((n, 16)) + shift, rng.standard_normal((m, 16)), subsets=None)

    scores = repeated(draw, 120)
    # Of 120 values the spread is known within 13 %.
    total = np.mean([np.hypot(score.stderr, score.stderr_reference) for score in scores])
    assert total == pytest.approx(np.std([score.value for score in scores], ddof=1), rel=0.2)


def test_models_equally_far_by_construction_are_told_apart_by_one_reference_and_not_by_both_errors():
    def surely_different(i):
        rng = np.random.default_rng(i)
        reference = rng.standard_normal((40, 16))
        a, b = (
            kernel_distance(rng.standard_normal((300, 16)) + shift, reference, subsets=None)
            for shift in 0.5 * np.eye(16)[:2]
        )
        given = a.influence.variance + b.influence.variance
        chosen = a.reference.minus(b.reference).variance
        return (a.value - b.value) ** 2 > 1.96**2 * np.array([given, given + chosen])

    # 29 and 5 % of 1,000: python -m benchmarks.equally_far.
    given, both = np.mean(repeated(surely_different, 120), axis=0)
    assert given > 0.2
    assert 0.01 <= both <= 0.09
