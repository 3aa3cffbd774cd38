"""The error bars of inception and Vendi scores, from one kind of sample to many: docs/explanations/uncertainty.md."""

import numpy as np
import pytest

from evalsvc.metrics.functional import inception_score, vendi_score
from tests.metrics.honesty import assert_honest


def logits(rng, n, classes, sureness, decay):
    shares = np.exp(-decay * np.arange(classes) / 3)
    drawn = rng.choice(classes, n, p=shares / shares.sum())
    return sureness * np.eye(classes)[drawn] + rng.standard_normal((n, classes))


@pytest.mark.parametrize("decay", [0.0, 1.0])
@pytest.mark.parametrize("sureness", [0.0, 1.0, 4.0, 30.0])
def test_error_bars_of_is_are_honest(sureness, decay):
    assert_honest(lambda rng: inception_score(logits(rng, 600, 10, sureness, decay), splits=1), coverage=(0.915, 0.985))


def test_error_bars_of_is_are_honest_over_splits():
    assert_honest(lambda rng: inception_score(logits(rng, 600, 10, 4.0, 0.5), splits=4), coverage=(0.915, 0.985))


def test_error_bars_of_is_are_honest_at_five_samples_a_class_and_missing_below():
    assert_honest(lambda rng: inception_score(logits(rng, 400, 20, 30.0, 0.0), splits=4), coverage=(0.915, 0.985))
    assert inception_score(logits(np.random.default_rng(0), 160, 20, 30.0, 0.0), splits=4).stderr is None


@pytest.mark.parametrize(("power", "q"), [(0.5, 1.0), (1.5, 2.0), (1.5, 0.5), (0.5, np.inf)])
def test_error_bars_of_vendi_are_honest(power, q):
    deviations = np.arange(1, 13) ** -power
    assert_honest(lambda rng: vendi_score(rng.standard_normal((400, 12)) * deviations, q), coverage=(0.91, 0.985))
