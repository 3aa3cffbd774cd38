import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsvc.metrics import MetricError
from evalsvc.metrics.functional import clip_score
from tests.metrics.honesty import assert_honest


def normal(seed, n, d=6):
    return np.random.default_rng(seed).standard_normal((n, d))


@given(st.integers(1, 20), st.integers(0, 2**31))
def test_embeddings_of_any_length_count_by_their_direction(n, seed):
    x, y = normal(seed, n), normal(seed + 1, n)
    scales = np.random.default_rng(seed).uniform(0.1, 10, (n, 1))
    assert clip_score(x * scales, y).value == pytest.approx(clip_score(x, y).value, rel=1e-9, abs=1e-9)


def test_a_sample_on_its_prompt_has_100_and_one_away_from_it_0():
    x = normal(0, 5)
    assert clip_score(x, 3 * x).value == pytest.approx(100)
    assert clip_score(x, 3 * x).stderr == pytest.approx(0, abs=1e-12)
    away = clip_score(x, -x)
    assert (away.value, away.details["cosine"]) == (0, pytest.approx(-1))


def test_the_order_of_the_prompts_counts():
    x = normal(0, 50)
    assert clip_score(x, x[::-1].copy()).value < 60 < clip_score(x, x).value


def test_it_is_the_mean_of_the_cut_cosines_over_many_blocks(monkeypatch):
    monkeypatch.setattr("evalsvc.metrics.arrays._BLOCK_BYTES", 500)
    x, y = normal(0, 90).astype(np.float32), normal(1, 90)
    each = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    found = clip_score(x, y)
    assert found.value == pytest.approx(100 * each.clip(0).mean())
    assert found.stderr == pytest.approx(100 * each.clip(0).std(ddof=1) / 90**0.5)


def test_a_single_sample_has_no_error_bar():
    found = clip_score(normal(0, 1), normal(1, 1))
    assert found.stderr is None
    assert found.stderr_method.startswith("none: a single sample")


@pytest.mark.parametrize(
    ("prompts", "complaint"),
    [(normal(1, 4), "5 samples and 4 prompts"), (normal(1, 5, 7), "6 columns"), (0 * normal(1, 5), "length 0")],
)
def test_what_does_not_fit_is_named(prompts, complaint):
    with pytest.raises(MetricError, match=complaint):
        inspect.unwrap(clip_score)(normal(0, 5), prompts)


@pytest.mark.parametrize("pull", [0.0, 0.5, 2.0])
def test_uncertainty_of_the_clip_score_is_honest(pull):
    def draw(rng):
        prompts = rng.standard_normal((100, 8))
        return clip_score(rng.standard_normal((100, 8)) + pull * prompts, prompts)

    assert_honest(draw)
