"""Errors of aggregates over items against simulated truth: ``python -m benchmarks.item_errors [draws]``.

Prints, for each case, the mean stated standard error over the Monte-Carlo standard deviation, and the coverage of the
95 % interval. The rows of docs/explanations/uncertainty.md are of 2,000 draws.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from evalsvc.analysis.differences import Run, difference
from evalsvc.metrics import functional as metrics
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction, Score
from evalsvc.metrics.slices import worst

PASSED = Quantity("passed", Direction.HIGHER, "share", 0.0, 1.0)
FAULTS = Quantity("faults", Direction.LOWER, "faults", 0.0, corpus="ratio", sums=("faults", "words"))
DRAWS = 4


class Task:
    """Items in groups of random sizes, with effects of group and item on two models, which share both in part."""

    def __init__(self, seed: int, items: int, grouped: bool) -> None:
        self.rng = rng = np.random.default_rng(seed)
        groups = np.sort(rng.integers(0, max(30, items // 8), items)) if grouped else np.arange(items)
        effect = rng.normal(0, 0.7, groups.max() + 1)[groups] + rng.normal(0, 0.7, items)
        self.levels = [effect + rng.normal(0, 0.4, items), effect + 0.2 + rng.normal(0, 0.4, items)]
        self.items, self.groups = np.repeat(np.arange(items), DRAWS), np.repeat(groups, DRAWS)

    def passed(self, model: int) -> np.ndarray:
        """0 or 1 of each draw."""
        chance = 1 / (1 + np.exp(-self.levels[model]))
        return (self.rng.random(len(self.items)) < chance[self.items]).astype(float)

    def faults(self, model: int) -> np.ndarray:
        """A positive number of each draw."""
        return self.rng.gamma(2, np.exp(self.levels[model][self.items] / 2))


def mean_passed(task: Task, model: int) -> Score:
    """Share of draws that pass."""
    return metrics.mean(task.passed(model), PASSED, task.groups)


def mean_faults(task: Task, model: int) -> Score:
    """Mean of a skewed quantity."""
    return metrics.mean(task.faults(model), FAULTS, task.groups)


def pass_at_2(task: Task, model: int) -> Score:
    """pass@2 of 4 draws."""
    return metrics.pass_at(task.passed(model), task.items, PASSED, task.groups, k=2)


def best_of(task: Task, model: int) -> Score:
    """Best of 4 draws."""
    return metrics.best_of(task.faults(model), task.items, FAULTS, task.groups)


def p90(task: Task, model: int) -> Score:
    """90th percentile."""
    return metrics.quantile(task.faults(model), FAULTS, task.groups, q=0.9)


def corpus(task: Task, model: int) -> Score:
    """Faults over words of the corpus."""
    words = task.rng.integers(1, 60, len(task.items)).astype(float)
    return metrics.corpus(np.stack([task.faults(model) * words, words], 1), FAULTS, task.groups)


AGGREGATES: tuple[Callable[[Task, int], Score], ...] = (mean_passed, mean_faults, pass_at_2, best_of, p90, corpus)


def run_of(score: Score, number: int) -> Run:
    """A score as a run over units that the two models share."""
    return Run.of(score, "p", {}, run=number, influence=score.influence, units="items/x")


def judged(values: np.ndarray, errors: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> str:
    """Ratio and coverage, against the mean over draws."""
    truth = values.mean()
    covered = ((lows <= truth) & (truth <= highs)).mean()
    return f"{errors.mean() / values.std(ddof=1):.2f} {covered:.3f}"


def rows(count: int) -> Iterator[str]:
    """One line for each aggregate, number of items and kind of grouping: alone, and paired."""
    for grouped in (True, False):
        for items in (100, 500, 2000):
            for aggregate in AGGREGATES:
                alone, paired = [], []
                for seed in range(count):
                    task = Task(seed, items, grouped)
                    a, b = aggregate(task, 0), aggregate(task, 1)
                    if a.stderr is None or b.stderr is None:
                        continue
                    alone.append((a.value, a.stderr, a.ci_low, a.ci_high))
                    gap = difference([run_of(a, 1)], [run_of(b, 2)])
                    interval = gap.interval()
                    assert interval
                    paired.append((gap.value, gap.stderr, *interval))
                if len(alone) < 2:  # too few groups for an error
                    continue
                found = [judged(*np.array(each, float).T) for each in (alone, paired)]
                kind = "groups" if grouped else "items"
                yield f"{aggregate.__name__:12} {items:5} {kind:7} alone {found[0]}   paired {found[1]}"


def few(count: int) -> Iterator[str]:
    """Coverage of shares of 20 items, and of the worst slice."""
    for share in (0.01, 0.03, 0.1, 0.5, 0.9, 0.99):
        rng, hits = np.random.default_rng(0), 0
        for _ in range(count):
            score = metrics.mean((rng.random(20) < share).astype(float), PASSED)
            hits += (score.ci_low or 0) <= share <= (score.ci_high or 0)
        yield f"share {share} of 20 items: {hits / count:.3f}"
    for kind in ("shares", "gamma"):
        for slices in (2, 10, 50):
            for equal in (True, False):
                found = _worst(kind, slices, equal, count)
                yield f"worst of {slices} {kind}, {'equal' if equal else 'unequal'}: {found:.3f}"


def _worst(kind: str, slices: int, equal: bool, count: int) -> float:
    rng, hits = np.random.default_rng(1), 0
    truth = np.full(slices, 0.85) if equal else np.linspace(0.6, 0.98, slices)
    quantity = PASSED if kind == "shares" else FAULTS
    true = truth.min() if kind == "shares" else truth.max()
    for _ in range(count // 10 if slices == 50 else count // 2):
        if kind == "shares":
            values = (rng.random((slices, 25)) < truth[:, None]).astype(float)
        else:
            values = rng.gamma(2, truth[:, None] / 2, (slices, 25))
        found = worst({str(i): metrics.mean(row, quantity) for i, row in enumerate(values)}, quantity)
        assert found
        hits += (found[1].ci_low or 0) <= true <= (found[1].ci_high or 0)
    return hits / (count // 10 if slices == 50 else count // 2)


if __name__ == "__main__":
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    for part in (partial(few, draws), partial(rows, draws)):
        for line in part():
            print(line, flush=True)
