"""Group-sequential testing: alpha spending (Lan and DeMets, 1983) for independent increments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

FIRST = 10
"""Fraction of the suite's samples that the first look uses."""
FLOOR = 100
"""Minimum number of samples of a look; below it, intervals are not assumed to be normal."""


@dataclass(frozen=True)
class Look:
    """One look: ``replicates`` runs of ``samples`` samples each.

    ``share`` is the part of the level that this look and the earlier looks of its plan spend together; the earlier
    looks used the earlier ``fractions`` of the plan's samples.
    """

    samples: int
    replicates: int
    fractions: tuple[float, ...]
    share: float = 1.0

    def z(self, alpha: float) -> float:
        """Critical value in standard errors that keeps the one-sided level ``alpha`` over all looks together."""
        return boundaries(alpha * self.share, self.fractions)[-1]

    @property
    def spent(self) -> float:
        """The share of the level that is spent when this look has been taken."""
        return spent(self.share, self.fractions[-1])


SINGLE = (1.0,)
"""Fractions of a plan with a single look."""
FIRST_SHARE = 0.9
"""The share of the level that the first plan spends; each later look spends half of the remaining share."""


def plan(samples: int, more: int = 1, have: int = 0) -> list[Look]:
    """The looks of a first decision: a tenth and a half of the suite's samples, all of them, then further replicates up
    to ``more``, doubling. ``have`` replicates are stored already; looks that would use fewer are omitted.
    """
    prefixes = [n for n in (max(samples // FIRST, FLOOR), samples // 2) if not have and FLOOR <= n < samples]
    sizes = [(n, 1) for n in sorted(set(prefixes))] + [(samples, r) for r in _replicates(more, have)]
    total = sizes[-1][0] * sizes[-1][1]
    fractions = [n * r / total for n, r in sizes]
    return [Look(n, r, tuple(fractions[: i + 1]), FIRST_SHARE) for i, (n, r) in enumerate(sizes)]


def later_plan(samples: int, more: int, have: int, spent: float) -> list[Look]:
    """The looks after a first decision, which has spent a share of the level: all samples of all replicates.

    Each look spends half of the remaining share. The shares therefore sum to at most the level, regardless of the
    reason for another look: new seeds, other limits, more samples (Bonferroni).
    """
    runs = _replicates(more, max(have, 1))
    return [Look(samples, r, SINGLE, (1 - spent) / 2**k) for k, r in enumerate(runs, 1)]


def _replicates(more: int, have: int) -> list[int]:
    doubling = [min(2**k, more) for k in range(more.bit_length() + 1)]
    return sorted({r for r in doubling if r >= have} | ({have} if have else set()))


def spent(alpha: float, fraction: float) -> float:
    """The part of ``alpha`` that may be spent up to an information fraction: the Pocock-type spending function.

    It keeps the critical values of all looks nearly equal. The O'Brien-Fleming type would require about five standard
    errors of a full evaluation as long as more samples may follow.
    """
    return alpha * math.log1p((math.e - 1) * fraction)


@lru_cache(maxsize=4096)
def boundaries(alpha: float, fractions: Sequence[float]) -> tuple[float, ...]:
    """One-sided critical values at increasing information fractions, the last of which may be below 1.

    Under the null hypothesis a process of independent increments exceeds any of them with probability ``spent(alpha,
    last)``. The density of the process that has not yet crossed is propagated from look to look on Gauss-Legendre nodes
    (Armitage, McPherson and Rowe, 1969).

    >>> [round(z, 3) for z in boundaries(0.025, (1.0,))]
    [1.96]
    """
    found: list[float] = []
    places, mass = np.zeros(1), np.ones(1)
    before = 0.0
    for fraction in fractions:
        due = spent(alpha, fraction) - spent(alpha, before)
        root, step = math.sqrt(fraction), math.sqrt(fraction - before)

        def crossing(y: float, at: np.ndarray = places, of: np.ndarray = mass, step: float = step) -> float:
            return float(of @ ndtr((at - y) / step))

        limit = float(brentq(lambda y, due=due, crossing=crossing: crossing(y) - due, -10 * root, 10 * root))
        found.append(limit / root)
        if len(found) == len(fractions):
            break
        low = -9 * root
        nodes, weights = _legendre()
        y = low + (limit - low) * (nodes + 1) / 2
        density = np.exp(-(((y[:, None] - places) / step) ** 2) / 2) @ mass / (step * math.sqrt(2 * math.pi))
        places, mass = y, density * weights * (limit - low) / 2
        before = fraction
    return tuple(found)


@lru_cache(maxsize=1)
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(200)
    return nodes, weights
