"""Ratings from pairwise wins and ties on the Elo scale, with intervals, and without a number where none exists."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Int64, Real

from evalsvc.metrics import davidson, vote_clusters
from evalsvc.metrics.arrays import as_matrix
from evalsvc.metrics.intervals import TAIL, student
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.score import Z95, MetricError
from evalsvc.metrics.vote_clusters import FEWEST
from evalsvc.metrics.votes import Votes

if TYPE_CHECKING:
    from evalsvc.metrics.arrays import Array

CENTER = 1000.0
POINTS = 400 / math.log(10)
"""Rating points of one natural logarithm of the odds: 400 points are odds of ten to one."""
INDEPENDENT = "votes as if independent"
Numbers = tuple[float | None, ...]
Square = Float64[np.ndarray, "p p"]
Column = Float64[np.ndarray, " p"]


class Standing(StrEnum):
    """Whether a player has a finite rating, and if not, why."""

    RATED = "rated"
    UNBEATEN = "unbeaten"
    WINLESS = "winless"
    TIED = "tied"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    """One entry a player, in the order of the matrix; ``None`` where a player has no finite rating.

    An unbeaten player has a lower bound in ``ci_low`` and no upper one, and a winless player the reverse.
    ``tie_chance`` is the chance that two equal players tie, ``None`` without ties; ``method`` says what the errors
    redraw.
    """

    ratings: Numbers
    stderrs: Numbers
    ci_low: Numbers
    ci_high: Numbers
    ranks: tuple[int | None, ...]
    standings: tuple[Standing, ...]
    tie_chance: float | None = None
    method: str = INDEPENDENT


def bradley_terry(
    wins: Real[Array, "players _players"], ties: Real[Array, "players _players"] | None = None
) -> BradleyTerry:
    """Maximum-likelihood ratings of the Bradley-Terry model, their mean at 1000, 400 points for odds of ten to one.

    ``wins[i, j]`` is how often player i beat player j, and ``ties[i, j] = ties[j, i]`` how often they tied. Ties are a
    third outcome, by the model of Davidson (1970): a rating is about the odds of games that are decided.

    Finite ratings exist only among players who are linked by wins or ties in both directions (a strongly connected
    component of who did not lose to whom). The largest such group, by players and then by games, is rated on the games
    inside it; everybody else has a standing in place of a rating: unbeaten, winless, tied (nothing but ties), or
    disconnected from the group. An unbeaten player's ``ci_low`` is the rating at which winning all games against rated
    players has a chance of 2.5 %; ``ci_high`` of a winless one is that of losing all.

    Intervals are 95 %, from the observed information under the constraint of a fixed mean: votes count as independent
    (:func:`rate_votes` knows of raters and items). A player's rank is 1 + the number of players whose lower bound
    exceeds this player's upper bound.

    Raises:
        MetricError: a matrix is not square, has fewer than two players, negative, NaN or infinite entries, or games of
            a player against himself; or ties are not symmetric.

    >>> table = bradley_terry(np.array([[0, 7], [3, 0]]))
    >>> [round(rating, 2) for rating in table.ratings]
    [1073.6, 926.4]
    >>> tied = bradley_terry(np.array([[0, 7], [3, 0]]), np.array([[0, 10], [10, 0]]))
    >>> [round(rating, 2) for rating in tied.ratings]
    [1073.6, 926.4]
    >>> bradley_terry(np.array([[0, 5], [0, 0]])).standings
    (<Standing.UNBEATEN: 'unbeaten'>, <Standing.WINLESS: 'winless'>)
    """
    won = _checked(wins, "wins")
    drawn = np.zeros_like(won) if ties is None else _checked(ties, "ties")
    if drawn.shape != won.shape or (drawn != drawn.T).any():
        raise MetricError("ties must be symmetric, with the players of wins")

    def errors(fitted: davidson.Davidson, _: Int64[np.ndarray, " g"]) -> tuple[Column, float, str]:
        return np.sqrt(np.diagonal(fitted.covariance)[: len(fitted.strengths)]), Z95, INDEPENDENT

    return _table(won, drawn, won, errors)


def rate_votes(votes: Votes, players: int) -> BradleyTerry:
    """:func:`bradley_terry` of single votes, with errors that hold for other raters and items.

    With ten raters or more, and ten items or more, both are redrawn: variances by rater and by item less that by vote,
    and Student's t at the fewer of them less one. Under ten raters, or where one rater decides some difference alone,
    the errors are those of other items judged by these raters; ``method`` says which. For the bounds of unbeaten and
    winless players, votes on one item count once.

    >>> votes = Votes.of([0] * 40, [1] * 40, [1, 0, 0.5, 1] * 10, ["ann"] * 40, list(range(40)))
    >>> rate_votes(votes, 2).method
    'redraws items; these raters only (1)'
    """
    if len(votes.points) == 0 or max(votes.first.max(), votes.second.max()) >= players:
        raise MetricError("votes must be about the players, and at least one")
    wins, ties = votes.counts(players)

    def errors(fitted: davidson.Davidson, group: Int64[np.ndarray, " g"]) -> tuple[Column, float, str]:
        inside = votes.among(group)
        found = vote_clusters.redrawn(inside, fitted)
        quantile = student(found.fewest) if found.fewest else Z95
        return np.sqrt(found.variances), quantile, _method(found, inside)

    return _table(wins, ties, votes.once_an_item().counts(players)[0], errors)


def _method(found: vote_clusters.Redrawn, votes: Votes) -> str:
    raters, items = (int(members.max()) + 1 for members in (votes.raters, votes.items))
    if found.raters and found.items:
        return f"redraws raters ({raters}) and items ({items})"
    few = "these raters only" if raters < FEWEST else "these raters only: some players depend on one of them"
    if found.items:
        return f"redraws items; {few} ({raters})"
    if found.raters:
        return f"redraws raters ({raters}); these items only ({items})"
    return f"{INDEPENDENT}; too few raters ({raters}) and items ({items}) to redraw"


Errors = Callable[[davidson.Davidson, Int64[np.ndarray, " g"]], tuple[Column, float, str]]


def _table(wins: Square, ties: Square, independent: Square, errors: Errors) -> BradleyTerry:
    """Ratings, with ``errors`` of the fit of a group; bounds of unrated players count ``independent`` wins."""
    count, group = len(wins), np.flatnonzero(_main_group(wins, ties))
    ratings, stderrs, low, high = np.full((4, count), np.nan)
    method, tie_chance = INDEPENDENT, None
    if rated := len(group) > 1:
        inside = np.ix_(group, group)
        fitted = davidson.fit(wins[inside], ties[inside])
        spread, quantile, method = errors(fitted, group)
        ratings[group], stderrs[group] = CENTER + POINTS * fitted.strengths, POINTS * spread
        low, high = ratings - quantile * stderrs, ratings + quantile * stderrs
        tie_chance = 1 / (1 + 2 * math.exp(-fitted.log_nu)) if ties[inside].any() else None
    known = np.isfinite(ratings)
    standings = tuple(_standing(wins, ties, i, bool(known[i])) for i in range(count))
    for i, standing in enumerate(standings):
        if rated and standing is Standing.UNBEATEN:
            low[i] = CENTER + POINTS * _least(independent[i, group], fitted)
        elif rated and standing is Standing.WINLESS:
            high[i] = CENTER - POINTS * _least(independent[group, i], fitted, -1)
    ranks = 1 + (low[None, :] > high[:, None]).sum(axis=1)
    ranked = np.isfinite(low) | np.isfinite(high)
    return BradleyTerry(
        ratings=_present(ratings),
        stderrs=_present(stderrs),
        ci_low=_present(low),
        ci_high=_present(high),
        ranks=tuple(int(rank) if held else None for rank, held in zip(ranks, ranked, strict=True)),
        standings=standings,
        tie_chance=tie_chance,
        method=method,
    )


def _present(column: Column) -> Numbers:
    return tuple(float(number) if math.isfinite(number) else None for number in column)


def _checked(counts: Array, name: str) -> Square:
    games = as_matrix(counts, name, 2).to(torch.float64).cpu().numpy()
    if games.shape[0] != games.shape[1]:
        raise MetricError(f"{name} has shape {games.shape}; give a square matrix, one row and one column a player")
    if games.min() < 0:
        raise MetricError(f"{name} has negative entries; give how often the row's player met this with the column's")
    if np.diagonal(games).any():
        raise MetricError(f"{name} has a player meeting himself; the diagonal must be zero")
    return games


def _main_group(wins: Square, ties: Square) -> Bool[np.ndarray, " p"]:
    from scipy.sparse.csgraph import connected_components  # a third of the time that a command takes to start

    _, labels = connected_components((wins > 0) | (ties > 0), connection="strong")
    within = labels[:, None] == labels
    won, drawn = np.where(within, wins, 0), np.where(within, ties, 0)
    size = np.bincount(labels)[labels]
    for label in np.unique(labels):
        inside = np.ix_(labels == label, labels == label)
        if not davidson.bounded(wins[inside], ties[inside]):
            size[labels == label] = 1
    played = np.bincount(labels, (won + drawn / 2).sum(axis=1))[labels]
    first = np.lexsort((-played, -size))[0]
    return np.asarray((labels == labels[first]) & (size > 1))


def _least(won: Column, fitted: davidson.Davidson, sign: int = 1) -> float:
    """Log strength at which winning all these games has a chance of 2.5 %; less that of losing all, where ``sign`` is
    -1.
    """
    from scipy.optimize import brentq

    if not won.any():
        return math.nan

    def surplus(strength: float) -> float:
        chance = davidson.chances(strength - sign * fitted.strengths, fitted.log_nu).win
        return float(won @ np.log(np.maximum(chance, 1e-300))) - math.log(TAIL)

    return float(brentq(surplus, -300.0, 300.0))


def _standing(wins: Square, ties: Square, player: int, rated: bool) -> Standing:
    if rated:
        return Standing.RATED
    won, lost, tied = bool(wins[player].any()), bool(wins[:, player].any()), bool(ties[player].any())
    if won and not lost:
        return Standing.UNBEATEN
    if lost and not won:
        return Standing.WINLESS
    return Standing.TIED if tied and not won else Standing.DISCONNECTED
