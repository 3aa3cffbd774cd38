"""Laws of features: spectra that fall as a power, heavy tails, mixtures, and smooth ones fitted to real features."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.uncertainty import pools

Draw = Callable[[np.random.Generator, int], np.ndarray]
MOVES = {"equal": (0.0, 1.0), "near": (0.1, 1.0), "far": (0.5, 1.2), "collapsed": (0.0, 0.6)}
"""How far a model is off: a shift in deviations of each feature, and its spread."""


@dataclass(frozen=True)
class Law:
    """Rows of ``d`` features around zero; ``deviations`` are those of the features."""

    draw: Draw
    deviations: np.ndarray

    def moved(self, move: str, rng: np.random.Generator, n: int) -> np.ndarray:
        """Rows of a model of this law: shifted along random signs, and spread."""
        shift, scale = MOVES[move]
        signs = np.random.default_rng(1).choice([-1.0, 1.0], len(self.deviations))
        return self.draw(rng, n) * scale + shift * signs * self.deviations


def _power(d: int, power: float, noise: Draw) -> Law:
    deviations = np.arange(1, d + 1) ** (-power / 2)
    return Law(lambda rng, n: noise(rng, n * d).reshape(n, d) * deviations, deviations)


def _mixture(rng: np.random.Generator, n: int) -> np.ndarray:
    centers = np.random.default_rng(2).standard_normal((10, 32)) * 1.5
    return centers[rng.integers(0, 10, n)] + rng.standard_normal((n, 32)) * np.arange(1, 33) ** -0.5


def _fitted(rows: np.ndarray) -> Law:
    """Rows of a pool, each once, where it is ten times as large; else a smooth law of the pool's covariance.

    Half of the variance of that is a row of the pool and half normal. Rows alone, drawn again and again, would be
    clumps: a law of a thousand points, of which 200 rows meet some twice.
    """
    centered = rows - rows.mean(0)
    size = len(centered)

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        if 10 * n <= size:
            return np.asarray(centered[rng.permutation(size)[:n]])
        normal = rng.standard_normal((n, size)) @ centered / size**0.5
        return np.asarray((centered[rng.integers(0, size, n)] + normal) / 2**0.5)

    return Law(draw, centered.std(0))


def _normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal(n)


def _laplace(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.laplace(size=n) / 2**0.5


def _t5(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.asarray(rng.standard_t(5, n) / (5 / 3) ** 0.5)


LAWS: dict[str, Callable[[], Law]] = {
    **{f"normal k^-{power:g}, d = 64": functools.partial(_power, 64, power, _normal) for power in (0.5, 1, 1.5, 2, 3)},
    "Laplace k^-1, d = 32": functools.partial(_power, 32, 1.0, _laplace),
    "t, 5 degrees, k^-1, d = 32": functools.partial(_power, 32, 1.0, _t5),
    "mixture of 10, d = 32": lambda: Law(_mixture, np.full(32, 1.5)),
    "digits, d = 64": lambda: _fitted(pools.digits()),
    "prose (MiniLM), d = 384": lambda: _fitted(pools.prose()),
    "photographs (EfficientNet), d = 1280": lambda: _fitted(pools.photographs()),
}
