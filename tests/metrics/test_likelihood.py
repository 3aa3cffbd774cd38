import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalsvc.metrics.likelihood import bits_per_byte, bits_per_dim, paired_difference, perplexity, word_perplexity
from evalsvc.metrics.score import Direction, MetricError

RATIOS = (perplexity, word_perplexity, bits_per_byte, bits_per_dim)


@st.composite
def corpora(draw, least=2):
    n = draw(st.integers(least, 30))
    # At most 30 nats a unit: from some 350 on, the end of a perplexity's interval exceeds what exp can hold.
    nll = draw(arrays(np.float64, n, elements=st.floats(0, 30.0)))
    units = draw(arrays(np.int64, n, elements=st.integers(1, 400)))
    return nll, units


def test_uniform_guessing_among_v_tokens_has_perplexity_v():
    tokens = np.array([3, 10, 200])
    score = perplexity(tokens * math.log(50257), tokens)
    assert score.value == pytest.approx(50257, rel=1e-12)
    assert score.stderr == pytest.approx(0, abs=1e-6)


def test_one_bit_a_byte_is_one_bit_a_byte():
    assert bits_per_byte(np.array([8.0, 16.0]) * math.log(2), np.array([8, 16])).value == pytest.approx(1, rel=1e-15)


def test_the_corpus_value_is_the_ratio_of_sums_and_not_the_mean_of_ratios():
    nll, tokens = np.array([1.0, 90.0]), np.array([10, 10])
    assert perplexity(nll, tokens).value == pytest.approx(math.exp(91 / 20), rel=1e-12)


def test_a_scalar_number_of_dimensions_stands_for_every_sample():
    nll = torch.tensor([10.0, 20.0, 40.0])
    assert bits_per_dim(nll, 64) == bits_per_dim(nll, torch.tensor([64, 64, 64]))


def test_bits_per_dim_of_a_density_may_be_negative_but_a_probability_has_no_negative_nll():
    nll = np.array([-5.0, -7.0])
    assert bits_per_dim(nll, 4).value < 0
    with pytest.raises(MetricError, match="negative log-likelihoods"):
        perplexity(nll, np.array([4, 4]))


@given(corpora())
def test_order_of_documents_does_not_matter(corpus):
    nll, units = corpus
    for ratio in RATIOS:
        forward, backward = ratio(nll, units), ratio(nll[::-1].copy(), units[::-1].copy())
        assert backward.value == pytest.approx(forward.value, rel=1e-12)
        assert backward.stderr == pytest.approx(forward.stderr, rel=1e-9, abs=1e-12 * forward.value)


@given(corpora(), st.integers(2, 9))
def test_copies_of_a_corpus_keep_its_value_and_shrink_its_error(corpus, copies):
    nll, units = corpus
    once, often = bits_per_byte(nll, units), bits_per_byte(np.tile(nll, copies), np.tile(units, copies))
    assert often.value == pytest.approx(once.value, rel=1e-12)
    assert often.stderr <= once.stderr + 1e-12


@given(corpora(), st.integers(2, 9))
def test_twice_the_units_are_half_the_bits(corpus, factor):
    nll, units = corpus
    one, scaled = bits_per_dim(nll, units), bits_per_dim(nll, units * factor)
    assert scaled.value * factor == pytest.approx(one.value, rel=1e-12)
    assert scaled.stderr * factor == pytest.approx(one.stderr, rel=1e-9, abs=1e-12)


@given(corpora(least=3))
def test_the_error_is_the_jackknife_of_documents(corpus):
    nll, units = corpus
    n = len(nll)
    whole = nll.sum() / units.sum()
    left_out = [np.delete(nll, i).sum() / np.delete(units, i).sum() for i in range(n)]
    expected = math.sqrt((n - 1) / n * sum((value - whole) ** 2 for value in left_out))
    assert bits_per_dim(nll, units).stderr * math.log(2) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_interval_of_perplexity_is_symmetric_in_the_logarithm():
    score = perplexity(np.array([20.0, 30.0, 55.0]), np.array([10, 10, 20]))
    assert score.ci_low * score.ci_high == pytest.approx(score.value**2, rel=1e-12)


def test_documents_without_words_do_not_break_word_perplexity():
    assert word_perplexity(np.array([4.0, 1.0]), np.array([5, 0])).value == pytest.approx(math.e)


def test_one_document_has_a_value_and_no_error():
    for score in (perplexity(np.ones(1), np.ones(1)), bits_per_byte(np.array([1.0, 0.0]), np.array([3, 0]))):
        assert score.stderr is None
        assert score.ci_low is None
        assert "single document" in score.stderr_method


@pytest.mark.parametrize(
    ("nll", "units", "says"),
    [
        ([1.0, 2.0], [1, 2, 3], "2 values of nll but 3"),
        ([1.0, math.nan], [1, 2], "NaN"),
        ([1.0, math.inf], [1, 2], "infinity"),
        ([1.0, 2.0], [1.0, math.nan], "NaN"),
        ([1.0, 2.0], [0, 0], "all zero"),
        ([1.0, 2.0], [-1, 5], "negative"),
        ([], [], "0 elements"),
    ],
)
@pytest.mark.parametrize("ratio", RATIOS)
def test_what_cannot_be_a_corpus_is_refused(ratio, nll, units, says):
    with pytest.raises(MetricError, match=says):
        ratio(np.array(nll, dtype=np.float64), np.array(units))


def test_a_likelihood_without_tokens_is_refused():
    with pytest.raises(MetricError, match="no tokens"):
        perplexity(np.ones(2), np.array([1, 0]))


def test_a_perplexity_beyond_floats_is_refused_by_name():
    with pytest.raises(MetricError, match="bits_per_byte"):
        perplexity(np.array([1e6, 1e6]), np.array([1, 1]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_any_number_type_is_summed_in_double_precision(dtype):
    nll = torch.full((70_000,), 3).to(dtype)
    assert bits_per_dim(nll, 1).value == pytest.approx(3 / math.log(2), rel=1e-14)


@given(corpora())
def test_a_model_differs_from_itself_by_exactly_nothing(corpus):
    nll, units = corpus
    score = paired_difference(nll, nll, units)
    assert (score.value, score.stderr) == (0.0, 0.0)


@given(corpora(), st.sampled_from(["nats_per_unit", "perplexity", "word_perplexity", "bits_per_byte", "bits_per_dim"]))
def test_exchanging_the_models_changes_only_the_sign(corpus, of):
    nll, units = corpus
    nll = np.minimum(nll, 20 * units)
    ahead, behind = paired_difference(nll, nll / 2, units, of=of), paired_difference(nll / 2, nll, units, of=of)
    assert ahead.value == -behind.value
    assert ahead.stderr == behind.stderr


def test_the_difference_is_that_of_the_two_scores():
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 50, 40)
    a, b = tokens * rng.gamma(9, 0.3, 40), tokens * rng.gamma(9, 0.3, 40)
    by_name = {"perplexity": perplexity, "word_perplexity": word_perplexity, "bits_per_byte": bits_per_byte}
    for of, ratio in by_name.items():
        score = paired_difference(a, b, tokens, of=of)
        assert score.value == pytest.approx(ratio(a, tokens).value - ratio(b, tokens).value, rel=1e-12)
        assert score.details["a"] == pytest.approx(ratio(a, tokens).value)
        assert score.direction is Direction.NEUTRAL


def test_pairing_cancels_what_is_hard_for_both():
    rng = np.random.default_rng(1)
    units = np.full(500, 20.0)
    hard = units * rng.gamma(9, 0.3, 500)
    a, b = hard + 1, hard + rng.normal(0, 0.1, 500)
    assert paired_difference(a, b, units).stderr < 0.05 * bits_per_dim(a, units).stderr


def test_an_unknown_ratio_is_named():
    with pytest.raises((MetricError, TypeError), match="of"):
        paired_difference(np.ones(2), np.ones(2), np.ones(2), of="accuracy")
