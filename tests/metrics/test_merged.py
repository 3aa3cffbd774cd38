"""The aggregate of merged states, on states that are sums of two numbers: the value is their ratio."""

import numpy as np
import pytest

from evalsvc.metrics.corpus import corpus
from evalsvc.metrics.influence import Influence, paired
from evalsvc.metrics.merged import SampleStates, merged
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction, MetricError
from tests.metrics.honesty import repeated

RATE = Quantity("rate", Direction.LOWER, "", corpus="merged")
RATIO = Quantity("rate", Direction.LOWER, "", corpus="ratio", sums=("a", "b"))


def states_of(sums):
    def merge(several):
        return np.sum([*several, np.zeros(2)], axis=0)

    return SampleStates(tuple(sums), merge, lambda state, _: float(state[0] / state[1]))


def sums_of(rng, n):
    words = rng.integers(3, 20, n)
    return np.stack([rng.binomial(words, rng.beta(2, 8, n)), words], axis=1).astype(float)


def test_the_value_is_that_of_the_merged_states_and_samples_without_one_are_left_out():
    states = states_of([np.array([1.0, 4.0]), None, np.array([3.0, 4.0])])
    score = merged(states, RATE)
    assert score.value == 0.5
    assert (score.n, dict(score.details)) == (2, {"not_applicable": 1.0})
    assert (score.stderr, score.stderr_method) == (None, "none: fewer than 20 groups of items")


def test_without_a_state_or_a_finite_value_there_is_no_score():
    with pytest.raises(MetricError, match="rate applies to none of the 2 samples"):
        merged(states_of([None, None]), RATE)
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(MetricError, match="rate of all samples is nan, which is not a score"),
    ):
        merged(states_of([np.zeros(2)]), RATE)


def test_the_jackknife_can_be_left_out():
    score = merged(states_of(sums_of(np.random.default_rng(0), 50)), RATE, error="none")
    assert (score.stderr, score.ci_low, score.influence) == (None, None, "none: the jackknife was left out")


def test_a_value_that_a_single_group_holds_has_no_error():
    with np.errstate(invalid="ignore"):
        score = merged(states_of([np.ones(2), *np.zeros((39, 2))]), RATE)
    assert (score.value, score.stderr) == (1.0, None)
    assert score.stderr_method == "none: one group of items holds everything that the value is found from"


def test_a_quantity_without_states_is_refused():
    with pytest.raises(ValueError, match="keeps no states of 'rate' that merge: use mean"):
        merged(states_of([]), RATIO)


@pytest.mark.parametrize("draws", [1, 3])
def test_errors_are_those_of_new_items_alone_and_paired(draws):
    def draw(seed):
        rng = np.random.default_rng(seed)
        items = np.repeat(np.arange(80), draws)
        first = np.repeat(sums_of(rng, 80), draws, axis=0) + rng.integers(0, 2, (80 * draws, 2))
        second = first + np.stack([rng.binomial(2, 0.4, len(first)), np.zeros(len(first))], axis=1)
        a, b = (merged(states_of(each), RATE, items) for each in (first, second))
        assert a.ci_low < a.value < a.ci_high
        return (a.value, a.stderr), (b.value - a.value, paired(b.influence, a.influence))

    alone, gaps = zip(*repeated(draw, 100), strict=True)
    for values, errors in (np.array(alone).T, np.array(gaps).T):
        assert 0.85 < errors.mean() / values.std(ddof=1) < 1.15
        # Student's t of 19 degrees of freedom.
        assert np.mean(np.abs(values - values.mean()) < 2.093 * errors) >= 0.9
    assert np.mean(gaps, axis=0)[1] < 0.7 * np.mean(alone, axis=0)[1]


def test_influences_have_the_variance_of_the_jackknife_and_its_degrees_of_freedom():
    sums = sums_of(np.random.default_rng(1), 333)
    score = merged(states_of(sums), RATE)
    assert isinstance(score.influence, Influence)
    assert score.influence.variance == pytest.approx(score.stderr**2, rel=1e-5)
    assert (score.influence.n, score.influence.freedom) == (333, 19.0)
    assert score.stderr == pytest.approx(corpus(sums, RATIO).stderr, rel=0.4)


def test_rows_of_states_are_taken_in_order():
    states = states_of([np.array([float(i), 1.0]) for i in range(5)])
    assert merged(states[np.array([4, 2])], RATE).value == 3
    assert merged(states[1:3], RATE).value == 1.5
