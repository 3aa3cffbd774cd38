import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evalsvc.metrics.bradley_terry import POINTS, Standing, bradley_terry
from evalsvc.metrics.score import MetricError


def tournament(strengths, games, seed):
    rng = np.random.default_rng(seed)
    wins = np.zeros((len(strengths),) * 2)
    for i in range(len(strengths)):
        for j in range(i):
            wins[i, j] = rng.binomial(games, 1 / (1 + math.exp(strengths[j] - strengths[i])))
            wins[j, i] = games - wins[i, j]
    return wins


def test_seven_to_three_is_a_gap_of_147_points():
    first, second = bradley_terry(np.array([[0, 7], [3, 0]])).ratings
    assert first - second == pytest.approx(400 * math.log10(7 / 3), rel=1e-12)
    assert round(first - second, 2) == 147.19
    assert first + second == pytest.approx(2000)


def test_ten_to_one_is_400_points():
    first, second = bradley_terry(torch.tensor([[0, 10], [1, 0]])).ratings
    assert first - second == pytest.approx(400, rel=1e-12)


@given(st.integers(1, 500), st.integers(1, 500))
def test_two_players_have_the_textbook_error(won, lost):
    """The log odds of a binomial have variance 1/won + 1/lost; each of two players holds half of the gap."""
    table = bradley_terry(np.array([[0, won], [lost, 0]]))
    assert table.stderrs[0] == pytest.approx(POINTS * math.sqrt(1 / won + 1 / lost) / 2, rel=1e-7)
    assert table.ratings[0] - 1000 == pytest.approx(POINTS * math.log(won / lost) / 2, rel=1e-7, abs=1e-7)


def test_equal_play_is_1000_for_all_and_everybody_is_first():
    table = bradley_terry(np.ones((5, 5)) - np.eye(5))
    assert table.ratings == pytest.approx([1000] * 5)
    assert table.ranks == (1,) * 5


@pytest.mark.parametrize("seed", range(3))
def test_each_players_expected_wins_are_the_wins_he_has(seed):
    wins = tournament(np.random.default_rng(seed).normal(0, 1, 7), 20, seed)
    ratings = np.array(bradley_terry(wins).ratings)
    expected = (wins + wins.T) / (1 + 10 ** ((ratings - ratings[:, None]) / 400))
    assert expected.sum(axis=1) == pytest.approx(wins.sum(axis=1), rel=1e-9)


def test_players_may_be_listed_in_any_order():
    wins = tournament([0, 0.5, 1, 2], 30, 5)
    order = [2, 0, 3, 1]
    table, mixed = bradley_terry(wins), bradley_terry(wins[np.ix_(order, order)])
    assert mixed.ratings == pytest.approx([table.ratings[i] for i in order], rel=1e-12)
    assert mixed.ranks == tuple(table.ranks[i] for i in order)


def test_four_times_the_games_halve_the_errors_and_keep_the_ratings():
    wins = tournament([0, 0.3, 1], 25, 1)
    few, many = bradley_terry(wins), bradley_terry(4 * wins)
    assert many.ratings == pytest.approx(few.ratings, rel=1e-9)
    assert np.array(many.stderrs) * 2 == pytest.approx(few.stderrs, rel=1e-6)


def test_a_rank_counts_who_is_surely_better():
    table = bradley_terry(tournament([0, 0.05, 3], 400, 2))
    assert table.ranks == (2, 2, 1)


def test_intervals_cover_the_true_ratings():
    truth = np.array([-0.8, -0.2, 0.0, 0.3, 0.7])
    tables = [bradley_terry(tournament(truth, 40, seed)) for seed in range(300)]
    low, high, ratings, stderrs = (
        np.array([getattr(t, f) for t in tables]) for f in ("ci_low", "ci_high", "ratings", "stderrs")
    )
    covered = ((low <= 1000 + POINTS * truth) & (1000 + POINTS * truth <= high)).mean(axis=0)
    assert ((covered > 0.92) & (covered < 0.98)).all()
    assert stderrs.mean(axis=0) == pytest.approx(ratings.std(axis=0), rel=0.15)


def test_an_unbeaten_a_winless_and_an_idle_player_have_no_rating():
    wins = np.zeros((5, 5))
    wins[0, 1], wins[1, 0] = 5, 3
    wins[2, 0] = wins[1, 3] = 1
    table = bradley_terry(wins)
    rated, unbeaten, winless, idle = Standing.RATED, Standing.UNBEATEN, Standing.WINLESS, Standing.DISCONNECTED
    assert table.standings == (rated, rated, unbeaten, winless, idle)
    for column in (table.ratings, table.stderrs, table.ci_low, table.ci_high, table.ranks):
        assert column[2:] == (None, None, None)
    assert table.ratings[:2] == pytest.approx(bradley_terry(wins[:2, :2]).ratings)


def test_a_shut_out_rates_nobody():
    table = bradley_terry(np.array([[0, 5], [0, 0]]))
    assert table.ratings == (None, None)
    assert table.standings == (Standing.UNBEATEN, Standing.WINLESS)


def test_of_two_separate_leagues_the_larger_is_rated():
    wins = np.zeros((5, 5))
    wins[:2, :2] = [[0, 9], [9, 0]]
    wins[2:, 2:] = np.ones((3, 3)) - np.eye(3)
    assert bradley_terry(wins).standings == (Standing.DISCONNECTED,) * 2 + (Standing.RATED,) * 3


def test_half_wins_for_ties_rate_all_draws_as_equal():
    assert bradley_terry(np.array([[0, 1.5], [1.5, 0]])).ratings == pytest.approx((1000, 1000))


@pytest.mark.parametrize(
    ("wins", "says"),
    [
        (np.ones((2, 3)), "square"),
        (np.zeros((1, 1)), "at least 2"),
        (np.array([[0, -1], [1, 0]]), "negative"),
        (np.array([[1, 1], [1, 0]]), "himself"),
        (np.array([[0, math.nan], [1, 0]]), "NaN"),
    ],
)
def test_what_is_no_tournament_is_refused(wins, says):
    with pytest.raises(MetricError, match=says):
        bradley_terry(wins)
