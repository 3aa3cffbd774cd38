import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsvc.metrics.bradley_terry import POINTS, Standing, bradley_terry, rate_votes
from evalsvc.metrics.score import MetricError
from evalsvc.metrics.votes import Votes
from tests.metrics.honesty import repeated


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
    tables = repeated(lambda seed: bradley_terry(tournament(truth, 40, seed)))
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
    assert table.ratings[2:] == table.stderrs[2:] == (None, None, None)
    assert [bound is None for bound in table.ci_low[2:]] == [False, True, True]
    assert [bound is None for bound in table.ci_high[2:]] == [True, False, True]
    assert table.ranks[4] is None
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


@settings(max_examples=30)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 400))
def test_ties_of_two_players_leave_the_odds_of_decided_games(won, lost, tied):
    """Three outcomes, two parameters: the fit has the observed shares, and the textbook error of won against lost."""
    table = bradley_terry(np.array([[0, won], [lost, 0]]), np.array([[0, tied], [tied, 0]]))
    assert table.ratings[0] - 1000 == pytest.approx(POINTS * math.log(won / lost) / 2, rel=1e-7, abs=1e-7)
    assert table.stderrs[0] == pytest.approx(POINTS * math.sqrt(1 / won + 1 / lost) / 2, rel=1e-6)
    nu = tied / math.sqrt(won * lost)
    assert table.tie_chance == pytest.approx(nu / (2 + nu), rel=1e-7)


def test_davidson_s_maximum_has_the_observed_points_and_ties():
    """Davidson (1970): at the maximum, expected points of each player and expected ties are those observed."""
    rng = np.random.default_rng(4)
    wins, ties = rng.poisson(3, (5, 5)), rng.poisson(2, (5, 5))
    np.fill_diagonal(wins, 0)
    ties = np.triu(ties, 1) + np.triu(ties, 1).T
    table = bradley_terry(wins, ties)
    strength = 10 ** (np.array(table.ratings) / 400)
    nu = 2 * table.tie_chance / (1 - table.tie_chance)
    both = strength[:, None] + strength + nu * np.sqrt(strength[:, None] * strength)
    games, tied = wins + wins.T + ties, nu * np.sqrt(strength[:, None] * strength) / both
    expected = games * (strength[:, None] / both + tied / 2)
    assert expected.sum(axis=1) == pytest.approx((wins + ties / 2).sum(axis=1), rel=1e-9)
    assert (games * tied).sum() == pytest.approx(ties.sum(), rel=1e-9)


@pytest.mark.parametrize(
    ("wins", "ties", "standings"),
    [
        ([[0, 0], [0, 0]], [[0, 3], [3, 0]], ("tied", "tied")),
        ([[0, 7], [0, 0]], [[0, 3], [3, 0]], ("unbeaten", "winless")),
        ([[0, 2, 0], [0, 0, 1], [0, 0, 0]], [[0, 1, 0], [1, 0, 1], [0, 1, 0]], ("unbeaten", "disconnected", "winless")),
        ([[0, 2, 0], [0, 0, 1], [0, 1, 0]], [[0, 1, 0], [1, 0, 1], [0, 1, 0]], ("rated",) * 3),
    ],
)
def test_ties_rate_nobody_where_the_likelihood_grows_without_end(wins, ties, standings):
    assert bradley_terry(np.array(wins), np.array(ties)).standings == standings


def test_an_unbeaten_player_has_the_bound_of_so_many_wins():
    """Against two equals at 1000, four wins have a chance of 2.5 % at odds of x to 1 with (x / (1 + x))^4 = 0.025."""
    wins = np.array([[0, 50, 0], [50, 0, 0], [2, 2, 0]])
    table = bradley_terry(wins)
    chance = 0.025 ** (1 / 4)
    assert table.ci_low[2] == pytest.approx(1000 + 400 * math.log10(chance / (1 - chance)), abs=1e-6)
    assert bradley_terry(wins.T).ci_high[2] == pytest.approx(2000 - table.ci_low[2], abs=1e-6)
    assert bradley_terry(np.array([[0, 50, 0], [50, 0, 0], [9, 9, 0]])).ranks == (2, 2, 1)


def votes(points, raters, items):
    return Votes.of([0] * len(points), [1] * len(points), points, raters, items)


def test_votes_of_one_rater_are_redrawn_by_item_and_say_so():
    """Five equal votes on each item tell as much as one."""
    points = np.random.default_rng(0).choice([0, 0.5, 1], 60)
    once = rate_votes(votes(points, ["ann"] * 60, range(60)), 2)
    fivefold = rate_votes(votes(points.repeat(5), ["ann"] * 300, np.arange(60).repeat(5)), 2)
    assert fivefold.stderrs == pytest.approx(once.stderrs)
    assert fivefold.ratings == pytest.approx(once.ratings)
    assert once.method == "redraws items; these raters only (1)"
    assert rate_votes(votes(points[:9], ["ann"] * 9, range(9)), 2).method.startswith("votes as if independent; too few")


def test_ten_raters_are_redrawn_unless_a_player_depends_on_one():
    rng = np.random.default_rng(1)
    raters, items = np.repeat(np.arange(10), 12), np.tile(np.arange(12), 10)
    points = rng.choice([0, 0.5, 1], 120)
    assert rate_votes(votes(points, raters, items), 2).method == "redraws raters (10) and items (12)"
    assert (
        rate_votes(votes(points[:108], raters[:108], items[:108]), 2).method == "redraws items; these raters only (9)"
    )
    second = np.ones(120, int)
    second[:12] = 2  # the first rater alone saw player 2
    of_one = rate_votes(Votes.of([0] * 120, second, points, raters, items), 3).method
    assert of_one == "redraws items; these raters only: some players depend on one of them (10)"


def test_bad_votes_are_refused():
    for arguments, says in (
        (([0], [1], [0.25], ["a"], [0]), "points of a vote must be 1"),
        (([0], [0], [1.0], ["a"], [0]), "with itself"),
        (([0], [1, 1], [1.0], ["a"], [0]), "one entry each"),
    ):
        with pytest.raises(MetricError, match=says):
            Votes.of(*arguments)
    with pytest.raises(MetricError, match="ties must be symmetric"):
        bradley_terry(np.eye(2)[::-1], np.array([[0, 1], [2, 0]]))
    with pytest.raises(MetricError, match="at least one"):
        rate_votes(Votes.of([], [], [], [], []), 2)


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
