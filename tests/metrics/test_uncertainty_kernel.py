"""The error bars of kernel distances, from equal to clearly different laws: docs/explanations/uncertainty.md."""

import numpy as np
import pytest

from evalsvc.metrics.functional import kernel_distance
from tests.metrics.honesty import assert_honest

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
