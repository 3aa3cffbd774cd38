"""Aggregates of values by item: their values, who counts, and what moves them."""

from itertools import combinations

import numpy as np
import pytest

from evalsvc.metrics import Direction, MetricError
from evalsvc.metrics.corpus import CORPUS, corpus
from evalsvc.metrics.functional import best_of, failed_share, mean, pass_at, quantile
from evalsvc.metrics.influence import paired
from evalsvc.metrics.registry import METRICS, Quantity

PASSED = Quantity("passed", Direction.HIGHER, "share", 0.0, 1.0)
WER = Quantity("wer", Direction.LOWER, "ratio", 0.0, corpus="ratio", sums=("errors", "words"))
ITEMS = np.repeat(np.arange(100), 4)


def flags(seed=0, items=100, draws=4):
    rng = np.random.default_rng(seed)
    return (rng.random((items, draws)) < rng.beta(1, 1, (items, 1))).astype(float).ravel()


def test_pass_at_k_is_the_mean_over_all_subsets_of_k_draws():
    passed, number = flags(), 2
    by_hand = [np.mean([max(pair) for pair in combinations(row, number)]) for row in passed.reshape(100, 4)]
    score = pass_at(passed, ITEMS, PASSED, k=number)
    assert score.value == pytest.approx(np.mean(by_hand))
    assert score.stderr == pytest.approx(np.std(by_hand, ddof=1) / 10)
    assert (score.name, score.n, score.details["items"]) == ("pass_at_2", 400, 100)


def test_pass_at_1_is_the_mean_with_errors_by_item():
    passed = flags()
    one, plain = pass_at(passed, ITEMS, PASSED), mean(passed, PASSED, ITEMS)
    assert (one.value, one.stderr, one.ci_low) == pytest.approx((plain.value, plain.stderr, plain.ci_low))


def test_items_with_too_few_draws_are_left_out_and_counted():
    passed = flags()
    passed[:3] = np.nan
    score = pass_at(passed, ITEMS, PASSED, k=2)
    assert score.value == pytest.approx(pass_at(passed[4:], ITEMS[4:], PASSED, k=2).value)
    assert (score.details["too_few_draws"], score.details["not_applicable"], score.details["items"]) == (1, 3, 99)


@pytest.mark.parametrize(("direction", "best"), [(Direction.LOWER, np.min), (Direction.HIGHER, np.max)])
def test_the_best_draw_follows_the_direction(direction, best):
    values = np.random.default_rng(0).exponential(size=400)
    score = best_of(values, ITEMS, Quantity("x", direction, "points"))
    assert score.value == pytest.approx(best(values.reshape(100, 4), axis=1).mean())
    assert (score.name, score.details["draws"]) == ("x_best_of", 4)


def test_order_of_rows_and_names_of_items_do_not_matter():
    passed, order = flags(), np.random.default_rng(1).permutation(400)
    one = pass_at(passed, ITEMS, PASSED, groups=ITEMS // 5, k=3)
    other = pass_at(passed[order], 1000 - ITEMS[order], PASSED, groups=ITEMS[order] // 5, k=3)
    assert (other.value, other.stderr) == pytest.approx((one.value, one.stderr))
    assert paired(one.influence, other.influence) == pytest.approx(0, abs=1e-8)


def test_groups_that_are_coarser_than_items_are_the_units():
    score = pass_at(flags(), ITEMS, PASSED, groups=ITEMS // 4, k=2)
    assert (score.details["groups"], score.details["items"], len(score.influence.whole)) == (25, 100, 25)
    assert mean(flags(), PASSED, ITEMS // 10).stderr is None


def test_what_is_not_applicable_moves_nothing_and_still_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 60))
    a[::3], b[::4] = np.nan, np.nan
    x, y = mean(a, WER), mean(b, WER)
    assert x.value == pytest.approx(np.nanmean(a))
    assert (x.influence.n, x.influence.members, x.details["not_applicable"]) == (60, 40, 20)
    assert np.sqrt(x.influence.variance) == pytest.approx(x.stderr)
    assert not x.influence.whole[::3].any()
    assert 0 < paired(x.influence, y.influence) < x.stderr + y.stderr


def test_an_error_needs_20_independent_items_but_a_share_of_single_ones_keeps_its_interval():
    few = mean(np.linspace(0, 1, 19), WER)
    assert (few.stderr, few.ci_low) == (None, None)
    assert "fewer than 20" in few.stderr_method
    share = mean(np.array([1.0] * 8 + [0.0]), PASSED)
    assert 0.45 < share.ci_low < share.value < share.ci_high < 1
    assert failed_share(np.zeros(400), ITEMS).ci_high == pytest.approx(0.03, abs=0.01)


def test_a_quantile_has_the_interval_of_order_statistics():
    values = np.arange(1000.0)
    score = quantile(values, WER, q=0.9)
    assert score.value == 899
    assert score.ci_low == pytest.approx(880, abs=2)
    assert score.ci_high == pytest.approx(917, abs=2)
    assert np.sqrt(score.influence.variance) == pytest.approx(score.stderr)
    assert quantile(values[:50], WER, q=0.95).stderr is None


def test_a_corpus_ratio_weighs_items_by_their_length():
    rng = np.random.default_rng(0)
    words = rng.integers(1, 50, 200).astype(float)
    errors = rng.binomial(words.astype(int), 0.1).astype(float)
    score = corpus(np.stack([errors, words], 1), WER)
    assert score.value == pytest.approx(errors.sum() / words.sum())
    residual = errors - score.value * words
    assert score.stderr == pytest.approx(residual.std() / words.mean() / np.sqrt(200), rel=0.05)
    assert score.name == "wer_corpus"


def test_corpus_bleu_and_chrf_are_those_of_sums():
    bleu = np.array([[9, 6, 4, 2, 12, 11, 10, 9, 12, 13.0], [3, 0, 0, 0, 4, 3, 2, 1, 4, 4]])
    expected = 100 * np.exp(1 - 17 / 16) * np.exp(np.mean(np.log([12 / 16, 6 / 14, 4 / 12, 2 / 10])))
    assert CORPUS["bleu"](bleu.sum(0)) == pytest.approx(expected)
    assert CORPUS["bleu"](bleu[1]) == pytest.approx(100 * (3 / 4 / (2 * 3) / (4 * 2) / (8 * 1)) ** 0.25)
    assert CORPUS["bleu"](np.zeros(10)) == 0
    assert CORPUS["chrf"](np.array([10, 8, 4, 9, 7, 3.0])) == pytest.approx(
        100 * 5 * (11 / 30) * (13 / 28) / (4 * (11 / 30) + 13 / 28)
    )
    assert CORPUS["chrf"](np.zeros(6)) == 0


@pytest.mark.parametrize(
    ("name", "quantity", "options", "label"),
    [
        ("mean", WER, {}, "wer"),
        ("quantile", WER, {"q": 0.95}, "wer_p95"),
        ("quantile", WER, {"q": 0.975}, "wer_p97.5"),
        ("best_of", WER, {}, "wer_best_of"),
        ("pass_at", PASSED, {"k": 10}, "pass_at_10"),
        ("corpus", WER, {}, "wer_corpus"),
    ],
)
def test_labels_directions_and_titles_are_known_before_any_value(name, quantity, options, label):
    (made,) = METRICS[name].derive(quantity, options)
    assert (made.name, made.direction, made.low) == (label, quantity.direction, quantity.low)
    assert made.titled("en")
    assert set(METRICS[name].choices) == set(options)


@pytest.mark.parametrize(
    ("name", "quantity"),
    [("pass_at", WER), ("corpus", PASSED), ("best_of", Quantity("x", Direction.NEUTRAL, "points"))],
)
def test_an_aggregate_that_makes_no_sense_is_refused_before_any_work(name, quantity):
    with pytest.raises(ValueError, match=": use mean"):
        METRICS[name].derive(quantity, {"k": 1})


def test_what_applies_to_nothing_is_an_error():
    with pytest.raises(MetricError, match="none of the 3 samples"):
        mean(np.full(3, np.nan), WER)
    with pytest.raises(MetricError, match="other than 0 and 1"):
        pass_at(np.full(4, 0.5), np.arange(4), PASSED)
