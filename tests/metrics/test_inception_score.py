import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsvc.metrics import MetricError
from evalsvc.metrics.functional import inception_score


def published_score(logits, splits, seed, shuffle=True):
    """Salimans et al. as torch-fidelity computes it, in float64."""
    n = len(logits)
    x = logits[np.random.RandomState(seed).permutation(n)] if shuffle else logits
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    values = []
    for i in range(splits):
        chunk = p[i * n // splits : (i + 1) * n // splits]
        values.append(np.exp((chunk * (np.log(chunk) - np.log(chunk.mean(0)))).sum(1).mean()))
    return np.mean(values), np.std(values)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(10, 200),
    c=st.integers(2, 12),
    splits=st.integers(1, 10),
    seed=st.integers(0, 2**31),
    shuffle=st.booleans(),
)
def test_is_is_the_published_one(n, c, splits, seed, shuffle):
    logits = 2 * np.random.default_rng(seed).standard_normal((n, c))
    score = inception_score(logits, splits=splits, seed=seed, shuffle=shuffle)
    mean, std = published_score(logits, splits, seed, shuffle)
    assert score.value == pytest.approx(mean, rel=1e-6)
    assert score.details["std"] == pytest.approx(std, rel=1e-6, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(c=st.integers(1, 30), repeats=st.integers(1, 10), confidence=st.sampled_from([60.0, 1e4]))
def test_is_of_uniform_one_hot_is_the_number_of_classes(c, repeats, confidence):
    one_hot = confidence * np.eye(c).repeat(repeats, axis=0)
    assert inception_score(one_hot, splits=1).value == pytest.approx(c, rel=1e-9)


def test_is_of_samples_that_all_look_alike_is_one():
    assert inception_score(np.tile([3.0, 1.0, 0.0], (100, 1))).value == pytest.approx(1.0, abs=1e-12)


def test_is_ignores_what_is_added_to_all_logits_of_a_sample():
    logits = np.random.default_rng(0).standard_normal((100, 5))
    shifted = logits + 1e3 * np.random.default_rng(1).standard_normal((100, 1))
    assert inception_score(shifted).value == pytest.approx(inception_score(logits).value, rel=1e-9)


def test_is_says_why_it_has_no_standard_error():
    logits = np.random.default_rng(0).standard_normal((190, 5))
    assert "fewer than 20 samples in a split" in inception_score(logits).stderr_method
    assert "effective class" in inception_score(1e3 * np.eye(40), splits=1).stderr_method
    assert inception_score(logits, splits=5).stderr > 0


def test_what_is_missing_is_said():
    logits = np.zeros((5, 3))
    with pytest.raises(MetricError, match="5 rows of logits cannot be cut into 10 splits"):
        inception_score(logits)
    with pytest.raises(MetricError, match="logits holds NaN or infinity"):
        inception_score(np.full((20, 2), np.inf))
