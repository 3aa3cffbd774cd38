"""The order of rows may carry their classes, and tells nothing: errors are those of the same rows in random order."""

import numpy as np
import pytest

from evalsvc.metrics.functional import compression_ratio
from evalsvc.metrics.registry import METRICS
from evalsvc.metrics.score import Score
from tests.shapes import unchecked

N, D = 520, 4  # above the 512 rows that the shape of a kernel's noise is found from
OPTIONS = {"kernel_distance": {"subsets": None}, "mind": {"directions": 24}}
NAMES = ["generated", "reference", "train", "heldout", "prompts", "x", "logits"]
WITH_ERRORS = [
    name
    for name, metric in METRICS.items()
    if metric.inputs.keys() <= set(NAMES)
    and name not in {"feature_likelihood_divergence", "mauve", "mauve_star"}  # which give no error
    and name not in {"grouped_frechet_distance", "precision_recall", "density_coverage"}  # the same by another name
]


def two_classes(rng):
    """Rows of a narrow and a wide class in turns, as far apart as they are wide."""
    label = np.arange(N) % 2
    return rng.standard_normal((N, D)) * np.where(label, 3.0, 0.3)[:, None] + 2.0 * label[:, None], label


def scores(name, inputs, rows):
    """The scores of the rows in an order of their own each; prompts are those of the generated rows."""
    arranged = {key: inputs[key][rows.get(key, rows["generated"])] for key in METRICS[name].inputs}
    found = METRICS[name].function(**arranged, **OPTIONS.get(name, {}))
    return [found] if isinstance(found, Score) else list(found.values())


def facts(score):
    return np.array([score.stderr, score.skewness, score.stderr_reference or 0.0])


@pytest.mark.parametrize("name", WITH_ERRORS)
def test_errors_do_not_depend_on_the_order_of_rows(name):
    rng = np.random.default_rng(3)
    inputs = {key: two_classes(rng)[0] for key in NAMES}
    label, own = two_classes(rng)[1], ("generated", "reference", "train", "heldout")
    with unchecked():
        shuffled = [scores(name, inputs, {key: rng.permutation(N) for key in own}) for _ in range(5)]
        for order in (np.argsort(label, kind="stable"), np.arange(N)):  # one class after the other, and in turns
            for place, score in enumerate(scores(name, inputs, dict.fromkeys(own, order))):
                others = np.array([facts(each[place]) for each in shuffled])
                apart = abs(facts(score) - others.mean(0))
                # Random halves leave a spread, which 5 values tell within a factor.
                assert (apart <= 5 * others.std(0, ddof=1) + 0.02 * abs(others.mean(0)) + 1e-9).all(), (order, score)


def test_the_error_of_the_compression_ratio_does_not_depend_on_the_order_of_texts():
    rng = np.random.default_rng(0)
    texts = [" ".join(map(str, rng.integers(0, 2 + 300 * (i % 2), 10))) for i in range(100)]
    by_class = compression_ratio(texts[::2] + texts[1::2]).stderr
    shuffled = [compression_ratio([texts[i] for i in rng.permutation(100)]).stderr for _ in range(4)]
    assert by_class < 1.5 * max(shuffled)
