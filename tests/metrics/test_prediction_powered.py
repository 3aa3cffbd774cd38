import numpy as np
import pytest

from evalsvc.metrics.prediction_powered import prediction_powered
from evalsvc.metrics.score import MetricError


def votes(right, people=80, items=1000, seed=0):
    rng = np.random.default_rng(seed)
    points = (rng.random(items) < 0.6) * 1.0
    judge = np.where(rng.random(items) < right, points, 1 - points)
    return points[:people], judge[:people], judge[people:]


def test_both_together_are_the_estimate_of_its_authors():
    """ppi-python 0.2.3, ``ppi_mean_pointestimate`` and ``ppi_mean_ci`` of the same arrays; an item has the weight
    of the others here, which moves the value little.
    """
    found = prediction_powered(*votes(0.85))
    assert found.together.value == pytest.approx(THEIRS[0], abs=0.02 * found.together.stderr)
    assert found.together.ci_high - found.together.ci_low == pytest.approx(THEIRS[1], rel=0.05)


THEIRS = (0.59696207, 0.15606666)


def test_a_judge_who_knows_nothing_leaves_people_alone():
    found = prediction_powered(*votes(0.5))
    assert found.weight < 0.1
    assert found.together.value == pytest.approx(found.people.value, abs=0.01)


def test_a_judge_who_is_always_right_counts_nearly_as_people():
    found = prediction_powered(*votes(1.0))
    assert found.together.stderr == pytest.approx(found.judge.stderr, rel=0.1)


@pytest.mark.parametrize("right", [0.0, 0.4, 0.6, 0.9, 1.0])
def test_together_are_never_less_sure_than_people_alone(right):
    for seed in range(20):
        found = prediction_powered(*votes(right, people=20, seed=seed))
        assert found.together.stderr <= found.people.stderr
        assert 0 <= found.weight <= 1


def test_a_judge_of_one_word_and_no_other_items_add_nothing():
    people, judged, others = votes(0.9)
    for found in (prediction_powered(people, judged * 0, others * 0), prediction_powered(people, judged, others[:0])):
        assert found.together == found.people
        assert found.weight == 0


def test_too_few_items_and_points_that_are_none_are_refused():
    people, judged, others = votes(0.9, people=20)
    with pytest.raises(MetricError, match="people rated 19 items that the judge compared; at least 20 are needed"):
        prediction_powered(people[:19], judged[:19], others)
    with pytest.raises(MetricError, match="between 0"):
        prediction_powered(people, judged, others + 1)
