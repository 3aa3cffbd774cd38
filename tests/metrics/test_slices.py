"""Slices of a score, and the worst of them."""

import numpy as np
import pytest

from evalsvc.metrics import Direction
from evalsvc.metrics.functional import mean
from evalsvc.metrics.influence import paired
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.slices import of_all, rows_by_tag, worst
from evalsvc.metrics.units import Units
from tests.metrics.honesty import repeated

PASSED = Quantity("passed", Direction.HIGHER, "share", 0.0, 1.0)
WER = Quantity("wer", Direction.LOWER, "ratio", 0.0)


def by_tag(values, tags, quantity=WER, groups=None):
    every = Units.of(len(values), groups)
    return {
        tag: of_all(mean(values[rows], quantity, None if groups is None else groups[rows]), rows, every)
        for tag, rows in rows_by_tag(tags).items()
    }


@pytest.mark.parametrize("draws", [1, 4])
def test_slices_keep_their_errors_among_all_units_and_add_up_to_the_whole(draws):
    rng = np.random.default_rng(0)
    groups = np.repeat(rng.permutation(200), draws)
    values, tags = rng.exponential(size=200 * draws) + groups / 100, ["ab"[group % 2] for group in groups]
    whole, found = mean(values, WER, groups), by_tag(values, tags, groups=groups)
    assert sum(score.value for score in found.values()) / 2 == pytest.approx(whole.value)
    for score in found.values():
        assert len(score.influence.whole) == 200
        assert score.influence.freedom == 99
        assert np.sqrt(score.influence.variance) == pytest.approx(score.stderr, rel=1e-5)
    if draws > 1:
        assert found["a"].influence.of_draws.n == 800
    apart = np.hypot(*(score.stderr for score in found.values()))
    assert paired(found["a"].influence, found["b"].influence) == pytest.approx(apart, rel=0.01)


def test_the_same_slice_of_two_checkpoints_is_paired():
    rng = np.random.default_rng(0)
    a, tags = rng.exponential(size=400), list("abcd" * 100)
    b = a + rng.normal(0, 0.01, 400)
    one, other = by_tag(a, tags)["c"], by_tag(b, tags)["c"]
    assert paired(one.influence, other.influence) < one.stderr / 20


@pytest.mark.parametrize(("quantity", "tag"), [(WER, "d"), (PASSED, "a")])
def test_the_worst_slice_follows_the_direction_and_its_interval_reaches_past_all_others(quantity, tag):
    rng = np.random.default_rng(0)
    rates = dict(zip("abcd", (0.2, 0.3, 0.4, 0.5), strict=True))
    tags = list("abcd" * 100)
    found = by_tag(np.array([float(rng.random() < rates[each]) for each in tags]), tags, quantity)
    which, score = worst(found, quantity)
    assert (which, score.value, score.details["slices"]) == (tag, found[tag].value, 4)
    worse, better = (score.ci_low, score.ci_high) if quantity is PASSED else (-score.ci_high, -score.ci_low)
    ends = [(s.ci_low, s.ci_high) if quantity is PASSED else (-s.ci_high, -s.ci_low) for s in found.values()]
    assert worse == min(low for low, _ in ends)
    assert better > min(high for _, high in ends)


def test_there_is_no_worst_of_nothing_or_without_a_direction():
    assert worst({}, WER) is None
    assert worst(by_tag(np.arange(40.0), list("ab" * 20)), Quantity("x", Direction.NEUTRAL, "points")) is None
    few = worst(by_tag(np.arange(20.0), list("ab" * 10)), WER)
    assert (few[1].stderr, few[1].ci_low) == (None, None)


@pytest.mark.parametrize(("kind", "equal"), [("shares", True), ("exponential", False)])
def test_the_interval_covers_the_worst_true_slice(kind, equal):
    rng = np.random.default_rng(3)
    truth = np.full(5, 0.9) if equal else np.linspace(0.6, 0.98, 5)
    quantity, true = (PASSED, truth.min()) if kind == "shares" else (WER, truth.max())

    def covers(_):
        values = (
            (rng.random((5, 20)) < truth[:, None]) if kind == "shares" else rng.exponential(truth[:, None], (5, 40))
        )
        found = {str(i): mean(row.astype(float), quantity) for i, row in enumerate(values)}
        score = worst(found, quantity)[1]
        return score.ci_low <= true <= score.ci_high

    assert np.mean(repeated(covers, 40)) >= 0.93
