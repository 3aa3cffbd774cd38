"""Draws of one prompt are no independent samples: errors count prompts."""

import numpy as np
import pytest

from evalsvc.metrics import functional as metrics
from evalsvc.metrics.skewness import Z95, widths
from evalsvc.metrics.units import Units
from tests.metrics.honesty import repeated

REFERENCE = 1.3 * np.random.default_rng(100).standard_normal((300, 6)).astype(np.float32)


def drawn(rng, prompts=100, each=4):
    """Images of prompts, which account for two thirds of the variance, in any order; and the prompt of each."""
    prompt = rng.permutation(np.repeat(np.arange(prompts), each))
    x = 0.8 * rng.standard_normal((prompts, 6))[prompt] + 0.6 * rng.standard_normal((len(prompt), 6))
    return (1.1 * x + 0.3).astype(np.float32), prompt


def flat(result):
    return list(result.values()) if isinstance(result, dict) else [result]


SETS = {
    "frechet_distance": lambda x, groups: metrics.frechet_distance(x, REFERENCE, groups),
    "kernel_distance": lambda x, groups: metrics.kernel_distance(x, REFERENCE, subsets=None, groups=groups),
    "prdc": lambda x, groups: metrics.prdc(x, REFERENCE, groups=groups),
    "inception_score": lambda x, groups: metrics.inception_score(3 * x, splits=2, groups=groups),
    "vendi_score": lambda x, groups: metrics.vendi_score(x + 1, groups=groups),
    "mind": lambda x, groups: metrics.mind(x, REFERENCE, directions=12, groups=groups),
    "clip_score": lambda x, groups: metrics.clip_score(x, np.ones_like(x), groups),
}
TEXTS = {
    "distinct_n": lambda texts, groups: metrics.distinct_n(texts, groups=groups),
    "repetition": lambda texts, groups: metrics.repetition(texts, 1, groups=groups),
}


@pytest.mark.parametrize("name", SETS)
def test_the_error_counts_prompts_and_not_images(name):
    scores = repeated(lambda i: flat(SETS[name](*drawn(np.random.default_rng(i)))), 40)
    for column in zip(*scores, strict=True):
        truth = np.std([score.value for score in column], ddof=1)
        stated = np.sqrt(np.mean([score.stderr**2 for score in column]))
        assert 0.75 < stated / truth < 1.35, (column[0].name, stated / truth)
        assert column[0].details["groups"] == 100
        assert "100 groups" in column[0].stderr_method


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_repeat_their_prompt_count_once(name):
    rng = np.random.default_rng(0)
    texts = [" ".join(map(str, rng.zipf(1.5, 20).clip(max=200))) for _ in range(120)]
    alone, thrice = TEXTS[name](texts, None), TEXTS[name](texts * 3, np.tile(np.arange(120), 3))
    assert thrice.details["groups"] == 120
    if name == "repetition":
        assert thrice.stderr == pytest.approx(alone.stderr)
    else:
        assert thrice.stderr == pytest.approx(alone.stderr / 3, rel=0.3)  # every n-gram is there three times


def test_likelihoods_of_one_prompt_are_one_document():
    nll, tokens = np.array([20.0, 10.0, 30.0, 25.0] * 20), np.array([10, 5, 12, 14] * 20)
    together = metrics.perplexity(nll, tokens, np.arange(80) // 2)
    expected = metrics.perplexity(nll.reshape(-1, 2).sum(1), tokens.reshape(-1, 2).sum(1))
    assert together.value == expected.value
    assert together.stderr == pytest.approx(expected.stderr)


@pytest.mark.parametrize("name", SETS)
def test_fewer_than_20_prompts_give_no_error(name):
    x, prompt = drawn(np.random.default_rng(0), prompts=19, each=12)
    for score in flat(SETS[name](x, prompt)):
        assert score.stderr is None
        assert "fewer than 20 independent groups of samples (19)" in score.stderr_method


def test_few_prompts_are_judged_by_students_t():
    x, prompt = drawn(np.random.default_rng(0), prompts=20, each=5)
    score = metrics.frechet_distance(x, REFERENCE, prompt)
    normal = widths(score.stderr, score.skewness, Z95)[1]
    assert (score.ci_high - score.value) / normal == pytest.approx(2.093 / Z95, abs=1e-3)


@pytest.mark.parametrize("name", [*SETS, *TEXTS])
def test_a_value_does_not_depend_on_the_groups_nor_an_error_on_groups_of_one(name):
    rng = np.random.default_rng(0)
    function = (SETS | TEXTS)[name]
    x = drawn(rng)[0] if name in SETS else [f"{a} {b}" for a, b in rng.integers(0, 9, (150, 2))]
    plain, alone, pairs = (
        flat(function(x, groups)) for groups in (None, rng.permutation(len(x)), np.arange(len(x)) // 2)
    )
    assert plain == alone
    assert [score.value for score in plain] == pytest.approx([score.value for score in pairs], rel=1e-9)


def test_halves_hold_whole_groups():
    owner = np.random.default_rng(0).integers(0, 30, 200)
    first, second = Units.of(200, owner).halves
    assert sorted([*first, *second]) == list(range(200))
    assert not set(owner[first]) & set(owner[second])
