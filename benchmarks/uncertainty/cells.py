"""One cell of the sweep: a metric's errors over many draws of one law, against one fixed reference."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.uncertainty.laws import LAWS, MOVES, Law
from evalsvc.metrics import Moments
from evalsvc.metrics import functional as metrics
from evalsvc.metrics.score import Score

RESULTS = Path("benchmarks/uncertainty/results.jsonl")
SIZES = (200, 2_000, 10_000)
LEVELS = (0.68, 0.9, 0.95, 0.99, 0.999)


def _logits(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Ten projections of the features, with a deviation of three."""
    axes = np.random.default_rng(3).standard_normal((x.shape[1], 10))
    return np.asarray(3 * (x @ axes) / (reference @ axes).std(0))


Measure = Callable[[np.ndarray, np.ndarray, Moments], Score | dict[str, Score]]

METRICS: dict[str, Measure] = {
    "Fréchet distance": lambda x, _, moments: metrics.frechet_distance(x, moments),
    "Fréchet distance at infinity": lambda x, _, moments: metrics.frechet_distance_infinity(x, moments),
    "kernel distance": lambda x, y, _: metrics.kernel_distance(x, y, subsets=None),
    "CMMD": lambda x, y, _: metrics.kernel_distance(
        x, y, subsets=None, kernel="rbf", sigma=float(2 * y.var(0).sum()) ** 0.5, biased=True
    ),
    "MIND": lambda x, y, _: metrics.mind(x, y, directions=16),
    "Vendi score": lambda x, *_: metrics.vendi_score(x + 1.0),
    "inception score": lambda x, y, _: metrics.inception_score(_logits(x, y), splits=1),
    "neighbors": lambda x, y, _: metrics.prdc(x, y),
}
"""Each of rows, a reference and its moments."""


@dataclass(frozen=True)
class Cell:
    """A law, how far the model is from it, the number of rows, and the metric."""

    law: str
    move: str
    n: int
    metric: str

    def run(self, law: Law, draws: int) -> Iterator[dict[str, Any]]:
        """Ratio of the mean standard error to the Monte-Carlo deviation, and coverage of the mean at each level."""
        reference = law.draw(np.random.default_rng(10**6), max(self.n, 500))
        moments, measure, scores = Moments.of(reference), METRICS[self.metric], defaultdict(list)
        for seed in range(draws):
            found = measure(law.moved(self.move, np.random.default_rng(seed), self.n), reference, moments)
            for name, score in (found if isinstance(found, dict) else {self.metric: found}).items():
                scores[name].append(score)
        facts = {"law": self.law, "move": self.move, "n": self.n, "m": len(reference), "group": self.metric}
        for name, drawn in scores.items():
            yield facts | {"metric": name} | summary(drawn)


def summary(scores: list[Score], truth: float | None = None) -> dict[str, Any]:
    """Ratio, with its relative error, and coverages of scores of independent draws; without an error, the reason."""
    values, stderrs = np.array([each.value for each in scores]), [each.stderr for each in scores]
    if None in stderrs:
        return {"draws": len(scores), "none": next(each.stderr_method for each in scores if each.stderr is None)}
    truth = float(values.mean()) if truth is None else truth
    ends = {level: np.array([each.interval(level) for each in scores]) for level in LEVELS}
    covered = {
        level: round(float(np.mean((low <= truth) & (truth <= high))), 4)
        for level, (low, high) in ((level, each.T) for level, each in ends.items())
    }
    low, high = ends[0.95].T
    fourth = float(np.mean((values - values.mean()) ** 4) / values.var() ** 2)
    return {
        "draws": len(scores),
        "value": truth,
        "ratio": round(float(np.mean(stderrs) / values.std(ddof=1)), 4),
        "ratio_error": round(math.sqrt(max(fourth - 1, 0.0) / len(scores)) / 2, 4),
        "coverage": covered,
        "above": round(float(np.mean(high < truth)), 4),
        "below": round(float(np.mean(low > truth)), 4),
    }


def todo(names: list[str], draws: int) -> Iterator[Cell]:
    """The cells whose names hold one of ``names``, or all, that have no result of as many draws; small ones first."""
    done = {(each["law"], each["move"], each["n"], each["group"]) for each in results() if each["draws"] >= draws}
    for n in SIZES:
        for metric in METRICS:
            for law in LAWS:
                for move in MOVES:
                    cell = Cell(law, move, n, metric)
                    text = f"{law} | {move} | n = {n:,} | {metric}."
                    if (law, move, n, metric) not in done and (not names or any(name in text for name in names)):
                        yield cell


def results() -> list[dict[str, Any]]:
    """What has been run, the last result of each cell."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    key = itemgetter("law", "move", "n", "metric")
    return list({key(each): each for each in map(json.loads, lines)}.values())


def record(result: dict[str, Any]) -> None:
    """Append a result."""
    with RESULTS.open("a") as file:
        file.write(json.dumps(result, ensure_ascii=False) + "\n")
