"""Looking more than once at the level promised: alpha spending (Lan and DeMets, 1983) for independent increments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

FIRST = 10
"""The first look takes this part of the suite's samples."""
FLOOR = 100
"""Under this many samples no interval is trusted to be normal, and nothing is decided."""


@dataclass(frozen=True)
class Look:
    """``replicates`` runs of ``samples`` samples each.

    ``share`` of the level is spent by this look and those of its plan before it, which used the earlier ``fractions``
    of the plan's samples.
    """

    samples: int
    replicates: int
    fractions: tuple[float, ...]
    share: float = 1.0

    def z(self, alpha: float) -> float:
        """How many standard errors decide at one-sided level ``alpha`` over all looks together."""
        return boundaries(alpha * self.share, self.fractions)[-1]

    @property
    def spent(self) -> float:
        """The share of the level that was spent when this look was taken."""
        return spent(self.share, self.fractions[-1])


SINGLE = (1.0,)
"""Fractions of a decision that is taken once."""
FIRST_SHARE = 0.9
"""The share of the level that the first plan spends; each look after it spends half of what is left."""


def plan(samples: int, more: int = 1, have: int = 0) -> list[Look]:
    """The looks of a first decision: a tenth and a half of the suite's samples, all of them, then further replicates up
    to ``more``, doubling. ``have`` replicates are there already; looks that would use less are left out.
    """
    prefixes = [n for n in (max(samples // FIRST, FLOOR), samples // 2) if not have and FLOOR <= n < samples]
    sizes = [(n, 1) for n in sorted(set(prefixes))] + [(samples, r) for r in _replicates(more, have)]
    total = sizes[-1][0] * sizes[-1][1]
    fractions = [n * r / total for n, r in sizes]
    return [Look(n, r, tuple(fractions[: i + 1]), FIRST_SHARE) for i, (n, r) in enumerate(sizes)]


def later_plan(samples: int, more: int, have: int, spent: float) -> list[Look]:
    """The looks after a first decision, which has spent a share of the level: all samples of all replicates.

    Each spends half of what is left, so that the shares add up to no more than the level whatever made somebody look
    again: new seeds, other limits, more samples (Bonferroni).
    """
    runs = _replicates(more, max(have, 1))
    return [Look(samples, r, SINGLE, (1 - spent) / 2**k) for k, r in enumerate(runs, 1)]


def _replicates(more: int, have: int) -> list[int]:
    doubling = [min(2**k, more) for k in range(more.bit_length() + 1)]
    return sorted({r for r in doubling if r >= have} | ({have} if have else set()))


def spent(alpha: float, fraction: float) -> float:
    """How much of ``alpha`` may be used up at an information fraction: the spending function of Pocock type.

    It keeps the critical values of all looks nearly equal, so that a full evaluation is not held to the five
    standard errors that O'Brien and Fleming's type would ask of it while more samples could still come.
    """
    return alpha * math.log1p((math.e - 1) * fraction)


@lru_cache(maxsize=4096)
def boundaries(alpha: float, fractions: Sequence[float]) -> tuple[float, ...]:
    """One-sided critical values at increasing information fractions, the last of which need not be 1.

    Under no effect a process of independent increments exceeds any of them with probability ``spent(alpha, last)``.
    The density of the process that has not yet crossed is carried from look to look on Gauss-Legendre nodes
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
