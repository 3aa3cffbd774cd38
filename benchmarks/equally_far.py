"""Two models equally far from the truth: how often are they told apart? ``python -m benchmarks.equally_far [draws]``.

Both models and the reference are drawn anew each time. Prints the share of comparisons whose 95 % interval excludes 0,
by the error that holds this reference fixed and by that which counts its rows as a sample: the second should be 0.05.
The rows of docs/explanations/uncertainty.md are of 1,000 draws.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np

from evalsvc.analysis.differences import Run, difference
from evalsvc.metrics import functional as metrics
from evalsvc.metrics.score import Score

Model = Callable[[np.random.Generator, int, int], np.ndarray]
Shares = dict[str, tuple[float, float]]


def shifted(axis: int, by: float) -> Model:
    """Normal in all dimensions, moved along one of them."""
    return lambda rng, n, d: rng.standard_normal((n, d)) + by * np.eye(d)[axis]


def wider(by: float) -> Model:
    """Normal, wider in all dimensions."""
    return lambda rng, n, d: rng.standard_normal((n, d)) * by


def as_wide(shift: float, d: int) -> float:
    """The width whose kernel distance (cubic, as KID's) from a standard normal law is that of a shift."""
    square = shift**2
    third = square**3 + 6 * square**2 + square * (3 * d + 6)
    distance = 3 * square / d + 3 * square**2 / d**2 + third / d**3
    return float(np.sqrt(1 + np.sqrt(distance * d / 3)))


def kid(x: np.ndarray, y: np.ndarray) -> dict[str, Score]:
    """KID over all pairs."""
    return {"kernel_distance": metrics.kernel_distance(x, y, subsets=None)}


def frechet(x: np.ndarray, y: np.ndarray) -> dict[str, Score]:
    """The Frechet distance."""
    return {"frechet_distance": metrics.frechet_distance(x, y)}


def neighbors(x: np.ndarray, y: np.ndarray) -> dict[str, Score]:
    """Precision, recall, density and coverage."""
    return metrics.prdc(x, y)


Case = tuple[str, Callable[[np.ndarray, np.ndarray], dict[str, Score]], int, int, int, Model, Model]
CASES: list[Case] = [
    ("two shifts", kid, 16, 500, 200, shifted(0, 0.5), shifted(1, 0.5)),
    ("a shift, a scale", kid, 16, 500, 200, shifted(0, 0.5), wider(as_wide(0.5, 16))),
    ("two shifts", frechet, 16, 2000, 900, shifted(0, 0.5), shifted(1, 0.5)),
    # A width of 1.125 is as far in the limit; at these n and m the bias of the wider law is 0.015 larger.
    ("a shift, a scale", frechet, 16, 2000, 900, shifted(0, 0.5), wider(1.1212)),
    ("two shifts", neighbors, 8, 300, 300, shifted(0, 1.0), shifted(1, 1.0)),
    ("two shifts", neighbors, 32, 500, 300, shifted(0, 1.5), shifted(1, 1.5)),
]


def told_apart(case: Case, draws: int) -> Shares:
    """The share of comparisons that are sure, on this reference and with both errors, by quantity."""
    _, measured, d, n, m, one, other = case
    sure: dict[str, list[tuple[bool, bool]]] = {}
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        reference = rng.standard_normal((m, d))
        a, b = measured(one(rng, n, d), reference), measured(other(rng, n, d), reference)
        for name in a:
            runs = [[Run.of(each[name], "", {"reference": "same"}, run=run)] for run, each in enumerate((a, b), 1)]
            found = difference(*runs)
            fixed, sampled = (_excludes_zero(found.interval(reference=by)) for by in ("fixed", "sampled"))
            sure.setdefault(name, []).append((fixed, sampled))
    return {name: tuple(np.mean(flags, axis=0)) for name, flags in sure.items()}


def _excludes_zero(interval: tuple[float, float] | None) -> bool:
    assert interval is not None
    return not interval[0] <= 0 <= interval[1]


def rows(draws: int) -> Iterator[str]:
    """The lines of the table, as they are found."""
    for case in CASES:
        title, _, d, n, m, *_ = case
        for name, (fixed, sampled) in told_apart(case, draws).items():
            yield f"| {name} | {title} | {d} | {n} | {m} | {fixed:.3f} | {sampled:.3f} |"


def main() -> None:
    print("| score | models | d | n | m | on this reference | with both errors |\n|---|---|---|---|---|---|---|")
    for row in rows(int(sys.argv[1]) if len(sys.argv) > 1 else 1000):
        print(row, flush=True)


if __name__ == "__main__":
    main()
