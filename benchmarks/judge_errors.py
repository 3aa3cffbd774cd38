"""Errors of a judge's rates against known truth: ``python -m benchmarks.judge_errors [draws]``.

A judge of known accuracy, noise or position bias judges the samples of new items in each draw. Prints, for each case,
the true value, the mean of the values, the mean stated error over the Monte-Carlo standard deviation, and the coverage
of the 95 % interval. The rows of docs/explanations/uncertainty.md are of 1,000 draws.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np

from evalsvc.builtin.scorers.pairwise import WINNER, Pairwise, values_of
from evalsvc.builtin.scorers.rubric import Rubric
from evalsvc.metrics import functional as metrics
from evalsvc.metrics.prediction_powered import Rate, prediction_powered
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Score

SHARE, GRADE = Rubric.quantities(scale="yes-no")[0], Rubric.quantities()[0]
WIN, POSITION = Pairwise.quantities[:2]
DRAWS = 2
Case = Callable[[np.random.Generator, int], tuple[np.ndarray, Quantity]]
"""Values of the draws of so many items, item by item, and their quantity."""


def yes_no(accuracy: float, right: float = 0.7) -> tuple[Case, float]:
    """A judge that says of each answer whether it is right, at this accuracy; right answers differ by item."""

    def values(rng: np.random.Generator, items: int) -> tuple[np.ndarray, Quantity]:
        chance = rng.beta(4 * right, 4 * (1 - right), items).repeat(DRAWS)
        is_right = rng.random(items * DRAWS) < chance
        return np.where(rng.random(items * DRAWS) < accuracy, is_right, ~is_right).astype(float), SHARE

    return values, accuracy * right + (1 - accuracy) * (1 - right)


def graded(gradings: int) -> tuple[Case, float]:
    """Means of several gradings 1 to 5: each is the item's own level, one up or one down."""

    def values(rng: np.random.Generator, items: int) -> tuple[np.ndarray, Quantity]:
        level = rng.choice([2, 3, 4], items, p=[0.2, 0.3, 0.5]).repeat(DRAWS)
        grades = level[:, None] + rng.choice([-1, 0, 1], (items * DRAWS, gradings), p=[0.3, 0.5, 0.2])
        return grades.mean(axis=1), GRADE

    return values, 0.2 * 2 + 0.3 * 3 + 0.5 * 4 - 0.1


def pairwise(share: float, bias: float, column: int, orders: int = 2) -> tuple[Case, float]:
    """A judge that takes the first answer at a chance of ``bias``, else the better one; ``share`` is our true rate.

    With one order, the sample always comes first.
    """

    def values(rng: np.random.Generator, items: int) -> tuple[np.ndarray, Quantity]:
        chance = rng.beta(4 * share, 4 * (1 - share), items).repeat(DRAWS)
        ours = rng.random(items * DRAWS) < chance
        first = rng.random((items * DRAWS, 2)) < bias
        verdicts = np.stack([np.where(first[:, 0] | ours, "A", "B"), np.where(first[:, 1] | ~ours, "A", "B")], axis=1)
        if orders == 1:
            return (verdicts[:, 0] == "A").astype(float), WIN
        found = [values_of([{WINNER: str(a)}, {WINNER: str(b)}])[column] for a, b in verdicts]
        return np.array(found), (WIN, POSITION)[column]

    return values, ((1 - bias) * share + bias / 2, bias / 2)[column]


CASES = {
    "yes or no, accuracy 0.9": yes_no(0.9),
    "yes or no, accuracy 0.6": yes_no(0.6),
    "1 grading": graded(1),
    "5 gradings": graded(5),
    "win rate, fair judge": pairwise(0.6, 0.0, 0),
    "win rate, equal sides, position bias 0.15": pairwise(0.5, 0.3, 0),
    "win rate, position bias 0.15": pairwise(0.6, 0.3, 0),
    "position bias 0.15": pairwise(0.6, 0.3, 1),
    "one order only, equal sides, position bias 0.15": pairwise(0.5, 0.3, 0, orders=1),
}


def scores(case: Case, items: int, draws: int) -> Iterator[Score]:
    """The mean of new items in each draw, with errors by item."""
    for seed in range(draws):
        values, quantity = case(np.random.default_rng([seed, items]), items)
        yield metrics.mean(values, quantity, np.arange(items).repeat(DRAWS))


def judged(case: Case, truth: float, items: int, draws: int) -> tuple[float, float, float]:
    """Mean value, ratio of errors, and coverage."""
    found = np.array([(each.value, each.stderr, each.ci_low, each.ci_high) for each in scores(case, items, draws)])
    value, stderr, low, high = found.T
    return value.mean(), stderr.mean() / value.std(ddof=1), ((low <= truth) & (truth <= high)).mean()


def with_people(people: int, draws: int) -> Iterator[tuple[str, float, float, float]]:
    """Mean, ratio and coverage of people, of a judge that flatters 6 of 10 answers by a grade, and of both together.

    People grade some of 400 items from 1 to 5, the judge all.
    """
    found: dict[str, list[Rate]] = {"people": [], "judge": [], "together": []}
    for seed in range(draws):
        rng = np.random.default_rng([seed, people])
        right = rng.choice([1.0, 2.0, 3.0, 4.0], 400, p=[0.2, 0.3, 0.3, 0.2])
        judge = right + (rng.random(400) < 0.6)
        right, judge = (right - 1) / 4, (judge - 1) / 4
        both = prediction_powered(right[:people], judge[:people], judge[people:])
        for name, rates in found.items():
            rates.append(getattr(both, name))
    truth = (2.5 - 1) / 4
    for name, rates in found.items():
        value, stderr, low, high = np.array([(r.value, r.stderr, r.ci_low, r.ci_high) for r in rates]).T
        covered = ((low <= truth) & (truth <= high)).mean()
        yield name, 1 + 4 * value.mean(), stderr.mean() / value.std(ddof=1), covered


def main() -> None:
    """Print the tables."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print("| judge | items | truth | mean | ratio | coverage |\n|---|---|---|---|---|---|")
    for name, (case, truth) in CASES.items():
        for items in (50, 300):
            mean, ratio, covered = judged(case, truth, items, draws)
            print(f"| {name} | {items} | {truth:.3f} | {mean:.3f} | {ratio:.2f} | {covered:.3f} |", flush=True)
    print("\n| people | of | truth | mean | ratio | coverage |\n|---|---|---|---|---|---|")
    for people in (20, 80):
        for name, mean, ratio, covered in with_people(people, draws):
            print(f"| {people} | {name} | 2.5 | {mean:.3f} | {ratio:.2f} | {covered:.3f} |", flush=True)


if __name__ == "__main__":
    main()
