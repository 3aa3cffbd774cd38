"""The error bars of manifold and memorisation metrics, equal to different laws (docs/explanations/uncertainty.md)."""

import numpy as np
import pytest

from evalsvc.metrics.balls import neighbor_radii
from evalsvc.metrics.functional import authenticity, ct_score, memorization_informed_frechet
from evalsvc.metrics.precision_recall import prdc, precision_recall
from tests.metrics.honesty import assert_honest, assert_scores_honest, repeated

LAWS = {
    "normal": lambda rng, n, d: rng.standard_normal((n, d)),
    "laplace": lambda rng, n, d: rng.laplace(size=(n, d)) / 2**0.5,
}


@pytest.mark.parametrize(
    ("metric", "k", "law", "d", "n", "m", "shift", "scale"),
    [
        (prdc, 5, "normal", 8, 250, 250, 0.0, 1.0),
        (prdc, 5, "laplace", 8, 250, 250, 0.5, 0.9),
        (prdc, 5, "normal", 32, 250, 250, 0.7, 1.0),
        (prdc, 3, "normal", 8, 200, 400, 1.0, 1.0),
        (precision_recall, 3, "laplace", 16, 300, 200, 1.0, 1.1),
    ],
)
def test_error_bars_of_manifold_metrics_are_honest(metric, k, law, d, n, m, shift, scale):
    reference = LAWS[law](np.random.default_rng(10**6), m, d)
    radii = neighbor_radii(reference, k)

    def draw(seed):
        generated = LAWS[law](np.random.default_rng(seed), n, d) * scale + np.eye(d)[0] * shift
        return metric(generated, reference, k, radii)

    found = repeated(draw)
    for name in found[0]:
        assert_scores_honest([scores[name] for scores in found])


def test_both_errors_of_manifold_metrics_together_are_those_of_both_sets_redrawn():
    def draw(i):
        rng = np.random.default_rng(i)
        return prdc(rng.standard_normal((100, 8)) + np.eye(8)[0], rng.standard_normal((100, 8)))

    found = repeated(draw, 80)
    for name in found[0]:
        scores = [each[name] for each in found]
        total = np.mean([np.hypot(score.stderr, score.stderr_reference) for score in scores])
        # Of 80 values the spread is known within 16 %.
        assert total == pytest.approx(np.std([score.value for score in scores], ddof=1), rel=0.25), name


TRAIN, REFERENCE = (
    np.random.default_rng(seed).standard_normal((n, 6)) for seed, n in ((10**6, 300), (10**6 + 1, 1000))
)


def new(rng, n):
    return rng.standard_normal((n, 6))


def noisy_copies(rng, n):
    return TRAIN[rng.integers(0, len(TRAIN), n)] + 0.3 * rng.standard_normal((n, 6))


@pytest.mark.parametrize("law", [new, noisy_copies])
def test_error_bars_of_authenticity_are_honest(law):
    assert_honest(lambda rng: authenticity(law(rng, 250), TRAIN))


def test_error_bars_of_mifid_are_honest():
    assert_honest(lambda rng: memorization_informed_frechet(new(rng, 300) + 0.4, REFERENCE, TRAIN))


def test_error_bars_of_ct_are_honest_about_both_draws():
    assert_honest(lambda rng: ct_score(noisy_copies(rng, 200), TRAIN, new(rng, 150), cells=2))
