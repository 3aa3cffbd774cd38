"""Errors of strengths when votes depend on each other: by rater and by item, which are redrawn together.

The variance is that of raters plus that of items less that of single votes, which both contain (Cameron, Gelbach and
Miller, "Robust inference with multiway clustering", 2011). Each of the first two is the jackknife over its clusters,
with one step of Newton's method in place of a new fit; it holds for few clusters of unequal weight, where the plain
sandwich is too small (MacKinnon, Nielsen and Webb, "Cluster-robust inference", 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from evalsvc.metrics import davidson
from evalsvc.metrics.davidson import Davidson
from evalsvc.metrics.votes import Votes

FEWEST = 10
"""Below this many raters or items, nothing is said about others than these."""
WEIGHT = 0.95
"""A cluster with more than this share of the information on some difference cannot be left out."""
CHUNK = 256
Members = Int64[np.ndarray, " n"]
Variances = Float64[np.ndarray, " p"]


@dataclass(frozen=True, eq=False)
class Redrawn:
    """Variances of the strengths, whether they are over other raters and items, and the fewest clusters of a kind."""

    variances: Variances
    raters: bool
    items: bool
    fewest: int | None


def redrawn(votes: Votes, fitted: Davidson) -> Redrawn:
    """Redraw raters and items, each where there are enough and none decides a difference alone."""
    terms = _Terms.of(votes, fitted)
    found = [_jackknife(terms, fitted, members) for members in (votes.raters, votes.items)]
    held = [each for each in found if each is not None]
    if not held:
        return Redrawn(np.diagonal(fitted.covariance)[: terms.players], False, False, None)
    single = _sandwich(terms, fitted)
    # Subtraction can leave less than independent votes would have.
    variances = np.maximum(held[0] + held[1] - single, single) if len(held) == 2 else held[0]
    clusters = zip((votes.raters, votes.items), found, strict=True)
    fewest = min(int(members.max()) + 1 for members, each in clusters if each is not None)
    return Redrawn(variances, found[0] is not None, found[1] is not None, fewest)


@dataclass(frozen=True, eq=False)
class _Terms:
    """Terms of the gradient and of the information at the fit, one a vote."""

    votes: Votes
    players: int
    gradient: Float64[np.ndarray, "n q"]
    expected: davidson.Chances

    @classmethod
    def of(cls, votes: Votes, fitted: Davidson) -> _Terms:
        players, width = len(fitted.strengths), len(fitted.information)
        expected = davidson.chances(fitted.strengths[votes.first] - fitted.strengths[votes.second], fitted.log_nu)
        rows, surplus = np.arange(len(votes.points)), votes.points - 0.5 - expected.lead
        gradient = np.zeros((len(rows), width))
        gradient[rows, votes.first], gradient[rows, votes.second] = surplus, -surplus
        if width > players:
            gradient[:, -1] = (votes.points == 0.5) - expected.tie
        return cls(votes, players, gradient, expected)

    def sums(self, members: Members) -> Float64[np.ndarray, "g q"]:
        """Gradients of clusters."""
        total = np.zeros((members.max() + 1, self.gradient.shape[1]))
        np.add.at(total, members, self.gradient)
        return total

    def information(self, members: Members, start: int, stop: int) -> Float64[np.ndarray, "g q q"]:
        """Information of clusters ``start`` to ``stop``."""
        chosen = np.flatnonzero((members >= start) & (members < stop))
        width = self.gradient.shape[1]
        total = np.zeros((stop - start, width, width))
        cluster, i, j = members[chosen] - start, self.votes.first[chosen], self.votes.second[chosen]
        weight, cross = self.expected.lead_variance[chosen], self.expected.covariance[chosen]
        last = np.full_like(i, width - 1)
        places = [(i, i, weight), (j, j, weight), (i, j, -weight), (j, i, -weight)]
        if width > self.players:
            places += [(i, last, cross), (last, i, cross), (j, last, -cross), (last, j, -cross)]
            places.append((last, last, self.expected.tie_variance[chosen]))
        for row, column, amount in places:
            np.add.at(total, (cluster, row, column), amount)
        return total


def _jackknife(terms: _Terms, fitted: Davidson, members: Members) -> Variances | None:
    count = int(members.max()) + 1
    if count < FEWEST:
        return None
    values, vectors = np.linalg.eigh(fitted.covariance)
    root, sums = vectors * np.sqrt(np.maximum(values, 0)), terms.sums(members)
    moves = np.empty_like(sums)
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        part = terms.information(members, start, stop)
        if np.linalg.eigvalsh(root.T @ part @ root).max() > WEIGHT:
            return None
        left = davidson.inverse(fitted.information - part, terms.players)
        moves[start:stop] = np.einsum("gij,gj->gi", left, sums[start:stop])
    return np.asarray((count - 1) * moves[:, : terms.players].var(axis=0))


def _sandwich(terms: _Terms, fitted: Davidson) -> Variances:
    """Variances if only votes of one rater on one item depend on each other."""
    cells = np.unique(np.stack([terms.votes.raters, terms.votes.items]), axis=1, return_inverse=True)[1].reshape(-1)
    moves = terms.sums(cells) @ fitted.covariance
    return np.asarray(len(moves) / max(1, len(moves) - 1) * (moves[:, : terms.players] ** 2).sum(axis=0))
