"""Davidson's model of comparisons with ties, fitted by maximum likelihood.

Roger R. Davidson, "On extending the Bradley-Terry model to accommodate ties in paired comparison experiments" (1970):
player i of strength s_i wins against j, ties or loses with chances in the ratio s_i : nu sqrt(s_i s_j) : s_j. It is
log-linear in the log strengths and log nu, so that the likelihood has one maximum, at which the expected points of each
player (1 a win, 1/2 a tie) and the expected number of ties are those observed. Without ties it is Bradley and Terry's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

NEWTON_STEPS = 100
Square = Float64[np.ndarray, "p p"]
Cells = Float64[np.ndarray, "*cells"]


@dataclass(frozen=True, eq=False)
class Chances:
    """Chances of games whose first players are ahead by given log strengths, and the moments of their outcomes."""

    win: Cells
    tie: Cells
    loss: Cells

    @property
    def lead(self) -> Cells:
        """Expected points of the first player, less 1/2."""
        return np.asarray((self.win - self.loss) / 2)

    @property
    def lead_variance(self) -> Cells:
        """Variance of the points."""
        # Without a difference of near squares, which would lose a strong player's last digits.
        return np.asarray(self.win * self.loss + self.tie * (self.win + self.loss) / 4)

    @property
    def covariance(self) -> Cells:
        """Covariance of the points with whether there is a tie."""
        return np.asarray(-self.tie * self.lead)

    @property
    def tie_variance(self) -> Cells:
        """Variance of whether there is a tie."""
        return np.asarray(self.tie * (1 - self.tie))


@dataclass(frozen=True, eq=False)
class Davidson:
    """The fit: log strengths of mean zero and log nu (-inf without ties), and the covariance of these parameters.

    ``covariance`` is the inverse of the observed information, with a last row for log nu where there are ties.
    """

    strengths: Float64[np.ndarray, " p"]
    log_nu: float
    covariance: Float64[np.ndarray, "q q"]
    information: Float64[np.ndarray, "q q"]


def chances(ahead: Shaped[np.ndarray, "*cells"], log_nu: float) -> Chances:
    """Chances of the first player, ahead by ``ahead`` log strengths, to win, tie and lose."""
    logits = np.stack([ahead / 2, np.full_like(ahead, log_nu), -ahead / 2])
    odds = np.exp(logits - logits.max(axis=0))
    win, tie, loss = odds / odds.sum(axis=0)
    return Chances(win, tie, loss)


def fit(wins: Square, ties: Square) -> Davidson:
    """Newton's method with halved steps where needed, for games whose likelihood has a maximum (:func:`bounded`)."""
    players, drawn = len(wins), bool(ties.any())
    games, points = wins + wins.T + ties, wins.sum(axis=1) + ties.sum(axis=1) / 2
    theta, log_nu = np.zeros(players), 0.0 if drawn else -np.inf

    def loss(theta: Float64[np.ndarray, " p"], log_nu: float) -> float:
        ahead = theta[:, None] - theta
        total = np.logaddexp(np.logaddexp(ahead / 2, -ahead / 2), log_nu)
        held = (wins * (total - ahead / 2)).sum()
        return float(held + (ties * (total - log_nu)).sum() / 2 if drawn else held)

    for _ in range(NEWTON_STEPS):
        expected = chances(theta[:, None] - theta, log_nu)
        gradient = points - (games * (expected.lead + 0.5)).sum(axis=1)
        if drawn:
            gradient = np.append(gradient, (ties - games * expected.tie).sum() / 2)
        information = _information(games, expected, drawn=drawn)
        covariance = inverse(information, players)
        step = covariance @ gradient
        # Shorter steps converge by themselves, and change the loss by less than its rounding.
        while np.abs(step).max() > 1e-3 and loss(theta + step[:players], log_nu + step[players:].sum()) > loss(
            theta, log_nu
        ):
            step /= 2
        theta, log_nu = theta + step[:players], float(log_nu + step[players:].sum())
        theta = theta - theta.mean()
        if np.abs(step).max() <= 1e-10:
            break
    return Davidson(theta, log_nu, covariance, information)


def _information(games: Square, expected: Chances, *, drawn: bool) -> Float64[np.ndarray, "q q"]:
    weight = games * expected.lead_variance
    information = np.diag(weight.sum(axis=1)) - weight
    if not drawn:
        return np.asarray(information)
    cross = (games * expected.covariance).sum(axis=1)
    corner = (games * expected.tie_variance).sum() / 2
    return np.block([[information, cross[:, None]], [cross, np.full((1, 1), corner)]])


def inverse(information: Float64[np.ndarray, "*b q q"], players: int) -> Float64[np.ndarray, "*b q q"]:
    """The inverse under a fixed mean of the strengths, of which a common shift has no information."""
    level = np.zeros(information.shape[-2:])
    level[:players, :players] = np.trace(information, axis1=-2, axis2=-1).max() / players**2
    return np.asarray(np.linalg.inv(information + level) - (level > 0) / level.sum())


def bounded(wins: Square, ties: Square) -> bool:
    """Whether nu has a finite best value among linked players: some cycle of games has more wins than ties.

    Otherwise strengths exist by which all winners are at least 1 ahead and all that tied at most 1 apart, and the
    likelihood grows along them without end (more ties between equals, more wins between others).
    """
    if not ties.any():
        return True
    walk = np.where(wins > 0, 1.0, np.where(ties > 0, -1.0, -np.inf))
    np.fill_diagonal(walk, 0.0)
    for middle in range(len(walk)):  # longest walks, by Floyd and Warshall
        walk = np.maximum(walk, walk[:, middle, None] + walk[middle])
        if (np.diagonal(walk) > 0).any():
            return True
    return False
