"""Distances from a right value, and differences of two of them: what their intervals promise."""

import numpy as np
import pytest

from evalsvc.analysis.differences import Run
from evalsvc.analysis.nearness import Distance, nearness
from evalsvc.metrics.score import Z95


def run(value, stderr, target, target_stderr=0.0, number=1):
    interval = (None, None) if stderr is None else (value - Z95 * stderr, value + Z95 * stderr)
    return Run(value, stderr, *interval, 100, "p", {}, "", number, target=target, target_stderr=target_stderr)


def found(a, b):
    return nearness([a], [b]).interval()


def test_a_distance_is_never_negative_and_its_interval_reaches_0_where_the_target_lies_within_that_of_the_value():
    assert Distance.of(3.0, (2.0, 5.0), 1.0, 0.0) == Distance(2.0, (1.0, 4.0))
    assert Distance.of(3.0, (2.0, 5.0), 2.5, 0.0) == Distance(0.5, (0.0, 2.5))
    assert Distance.of(1.0, (0.0, 2.0), 4.0, 0.0) == Distance(3.0, (2.0, 4.0))
    assert Distance.of(4.0, (1.0, 8.0), 0.0, 3.0) == Distance(4.0, (0.0, 9.0))
    assert Distance.of(4.0, None, 0.0, 0.0).interval is None
    assert Distance.of(4.0, (1.0, 8.0), 0.0, None).interval is None


def test_the_error_of_a_shared_target_cancels_on_one_side_of_it_and_counts_twice_on_both():
    one_side = nearness([run(12.0, 0.1, 10.0, 1.0)], [run(14.0, 0.1, 10.0, 1.0, 2)])
    assert one_side.value == 2.0
    assert one_side.interval() == pytest.approx((2 - Z95 * 0.02**0.5, 2 + Z95 * 0.02**0.5))
    both_sides = nearness([run(8.0, 0.1, 10.0, 1.0)], [run(15.0, 0.1, 10.0, 1.0, 2)])
    assert both_sides.value == 3.0
    assert both_sides.interval() == pytest.approx((3 - Z95 * 4.02**0.5, 3 + Z95 * 4.02**0.5))


def test_a_run_is_exactly_as_near_as_itself_and_unknown_errors_decide_nothing():
    mine = run(12.0, 0.1, 10.0, 1.0)
    assert found(mine, mine) == (0.0, 0.0)
    assert found(mine, run(12.0, None, 10.0, 1.0, 2)) is None
    assert found(mine, run(12.0, 0.1, 10.0, None, 2)) is None
    assert nearness([run(1.0, 0.1, None)], [run(2.0, 0.1, None, number=2)]) is None
    # A score of before, without a target, is held against that of the other.
    assert nearness([run(12.0, 0.1, None, None)], [run(11.0, 0.1, 10.0, 0.0, 2)]).value == -1.0


@pytest.mark.parametrize(("stderr_a", "target_stderr"), [(1.0, 0.0), (0.3, 0.5), (1.0, 1.0)])
@pytest.mark.parametrize("pair", [(3, 3), (2, -2), (0, 0), (0, 1), (0.5, -0.5), (-1, 4)], ids=str)
def test_intervals_of_differences_of_distances_cover_and_equally_near_models_are_rarely_told_apart(
    pair, stderr_a, target_stderr
):
    rng = np.random.default_rng(3)
    truth = abs(pair[1]) - abs(pair[0])
    covered, told = 0, 0
    for _ in range(400):
        target = target_stderr * rng.normal()
        a = run(pair[0] + stderr_a * rng.normal(), stderr_a, target, target_stderr)
        b = run(pair[1] + rng.normal(), 1.0, target, target_stderr, 2)
        low, high = found(a, b)
        covered += low <= truth <= high
        told += not low <= 0 <= high
    assert covered >= 0.92 * 400
    if truth == 0:
        assert told <= 0.08 * 400
