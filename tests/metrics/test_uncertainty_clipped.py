"""The error bars of clipped density and coverage (docs/explanations/uncertainty.md)."""

import math

import numpy as np

from evalsvc.metrics.balls import neighbor_radii
from evalsvc.metrics.clipped import clipped_density_coverage
from tests.metrics.honesty import assert_scores_honest, repeated


def test_error_bars_of_clipped_metrics_are_honest_with_bad_samples_and_without():
    reference = np.random.default_rng(10**6).standard_normal((120, 8))
    radii = neighbor_radii(reference)

    def draw(seed):
        rng = np.random.default_rng(seed)
        generated = rng.standard_normal((120, 8)) + 0.8 * np.eye(8)[0]
        generated[rng.random(120) < 0.3] += 100
        return clipped_density_coverage(generated, reference, 5, radii)

    found = repeated(draw, 60)
    for name in found[0]:
        assert_scores_honest([scores[name] for scores in found], ratio=(0.8, 1.25), coverage=(0.88, 1.0))


def test_with_what_the_reference_adds_the_error_of_the_coverage_is_that_of_both_draws():
    def draw(seed):
        rng = np.random.default_rng(seed)
        reference, generated = rng.standard_normal((150, 8)), rng.standard_normal((150, 8)) + 1.2 * np.eye(8)[0]
        return clipped_density_coverage(generated, reference, 3)["clipped_coverage"]

    found = repeated(draw, 60)
    values, errors = np.array([s.value for s in found]), [math.hypot(s.stderr, s.stderr_reference) for s in found]
    ends = [score.interval(0.95, "sampled") for score in found]
    assert 0.8 < np.mean(errors) / values.std(ddof=1) < 1.25
    assert np.mean([low <= values.mean() <= high for low, high in ends]) > 0.88
