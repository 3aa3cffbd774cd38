"""Ratings from pairwise wins on the Elo scale, with intervals, and without a number where none exists."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Real
from scipy.special import expit

from evalsvc.metrics.arrays import as_matrix
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.score import Z95, MetricError

if TYPE_CHECKING:
    from evalsvc.metrics.arrays import Array

CENTER = 1000.0
NEWTON_STEPS = 100
POINTS = 400 / math.log(10)
"""Rating points of one natural logarithm of the odds: 400 points are odds of ten to one."""


class Standing(StrEnum):
    """Whether a player has a finite rating, and if not, why."""

    RATED = "rated"
    UNBEATEN = "unbeaten"
    WINLESS = "winless"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    """One entry a player, in the order of the matrix; ``None`` where a player has no finite rating."""

    ratings: tuple[float | None, ...]
    stderrs: tuple[float | None, ...]
    ci_low: tuple[float | None, ...]
    ci_high: tuple[float | None, ...]
    ranks: tuple[int | None, ...]
    standings: tuple[Standing, ...]


def bradley_terry(wins: Real[Array, "players _players"]) -> BradleyTerry:
    """Maximum-likelihood ratings of the Bradley-Terry model, their mean at 1000, 400 points for odds of ten to one.

    ``wins[i, j]`` is how often player i beat player j; a tie counts half a win for both. Finite ratings exist only
    among players who are linked by wins in both directions (a strongly connected component of who beat whom). The
    largest such group, by players and then by games, is rated on the games inside it; everybody else has a standing in
    place of a rating: unbeaten, winless, or disconnected from the group.

    Intervals are 95 %, from the observed information under the constraint of a fixed mean. A player's rank is 1 + the
    number of players whose lower bound exceeds this player's upper bound.

    Raises:
        MetricError: the matrix is not square, has fewer than two players, negative, NaN or infinite entries, or wins of
            a player over himself.

    >>> table = bradley_terry(np.array([[0, 7], [3, 0]]))
    >>> [round(rating, 2) for rating in table.ratings]
    [1073.6, 926.4]
    >>> bradley_terry(np.array([[0, 5], [0, 0]])).standings
    (<Standing.UNBEATEN: 'unbeaten'>, <Standing.WINLESS: 'winless'>)
    """
    games = _checked(wins)
    group = np.flatnonzero(_main_group(games))
    count = len(games)
    ratings, stderrs = np.full(count, np.nan), np.full(count, np.nan)
    if len(group) > 1:
        strengths, spread = _fit(games[np.ix_(group, group)])
        ratings[group], stderrs[group] = CENTER + POINTS * strengths, POINTS * spread
    low, high = ratings - Z95 * stderrs, ratings + Z95 * stderrs
    ranks = 1 + (low[None, :] > high[:, None]).sum(axis=1)
    rated = np.isfinite(ratings)

    def present(column: np.ndarray) -> tuple[float | None, ...]:
        return tuple(float(number) if known else None for number, known in zip(column, rated, strict=True))

    return BradleyTerry(
        ratings=present(ratings),
        stderrs=present(stderrs),
        ci_low=present(low),
        ci_high=present(high),
        ranks=tuple(int(rank) if known else None for rank, known in zip(ranks, rated, strict=True)),
        standings=tuple(_standing(games, i, bool(rated[i])) for i in range(count)),
    )


def _checked(wins: Array) -> Float64[np.ndarray, "players players"]:
    games = as_matrix(wins, "wins", 2).to(torch.float64).cpu().numpy()
    if games.shape[0] != games.shape[1]:
        raise MetricError(f"wins has shape {games.shape}; give a square matrix, one row and one column a player")
    if games.min() < 0:
        raise MetricError("wins has negative entries; give how often the row's player beat the column's")
    if np.diagonal(games).any():
        raise MetricError("wins has a player beating himself; the diagonal must be zero")
    return games


def _main_group(games: Float64[np.ndarray, "players players"]) -> Bool[np.ndarray, " players"]:
    from scipy.sparse.csgraph import connected_components  # a third of the time that a command takes to start

    _, labels = connected_components(games > 0, connection="strong")
    size = np.bincount(labels)[labels]
    inside = np.where(labels[:, None] == labels, games, 0)
    played = np.bincount(labels, inside.sum(axis=1))[labels]
    first = np.lexsort((-played, -size))[0]
    return np.asarray(labels == labels[first])


def _fit(
    games: Float64[np.ndarray, "players players"],
) -> tuple[Float64[np.ndarray, " players"], Float64[np.ndarray, " players"]]:
    """Log strengths of mean zero and their standard errors, by Newton's method with halved steps where needed."""
    meetings, won = games + games.T, games.sum(axis=1)
    theta = np.zeros(len(games))

    def loss(theta: Float64[np.ndarray, " players"]) -> float:
        return float((games * np.logaddexp(0.0, theta[None, :] - theta[:, None])).sum())

    for _ in range(NEWTON_STEPS):
        chance = expit(theta[:, None] - theta)
        weight = meetings * chance * (1 - chance)
        information = np.diag(weight.sum(axis=1)) - weight
        # The ratings' common shift has no information: some is added, and removed from the inverse.
        level = np.full_like(weight, np.trace(information) / len(games) ** 2)
        covariance = np.linalg.inv(information + level) - 1 / level.sum()
        step = covariance @ (won - (meetings * chance).sum(axis=1))
        while loss(theta + step) > loss(theta) and np.abs(step).max() > 1e-12:
            step /= 2
        theta = theta + step - (theta + step).mean()
        if np.abs(step).max() <= 1e-10:
            break
    return theta, np.sqrt(np.diagonal(covariance))


def _standing(games: Float64[np.ndarray, "players players"], player: int, rated: bool) -> Standing:
    if rated:
        return Standing.RATED
    won, lost = bool(games[player].any()), bool(games[:, player].any())
    if won and not lost:
        return Standing.UNBEATEN
    if lost and not won:
        return Standing.WINLESS
    return Standing.DISCONNECTED
