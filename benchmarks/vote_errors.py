"""Errors of ratings from votes against redrawn raters and items: ``python -m benchmarks.vote_errors [DRAWS]``.

Each rater has a taste for each player and each item suits each player more or less, both normal on the log scale. The
true ratings are those that endless raters and items would give: the fit to the chances averaged over both effects.
"""

from __future__ import annotations

import itertools
import sys

import numpy as np

from evalsvc.metrics import davidson
from evalsvc.metrics.agreement import krippendorff_alpha
from evalsvc.metrics.bradley_terry import CENTER, POINTS, rate_votes
from evalsvc.metrics.prediction_powered import prediction_powered
from evalsvc.metrics.votes import Votes

STRENGTHS = np.array([-0.8, -0.1, 0.2, 0.7])
PAIRS = np.array(list(itertools.combinations(range(len(STRENGTHS)), 2)))


def truth(log_nu: float, spread: float, strengths: np.ndarray = STRENGTHS) -> np.ndarray:
    """Ratings of endless votes whose lead has a normal effect of this standard deviation."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    lead = (strengths[:, None] - strengths)[:, :, None] + spread * nodes
    mean = davidson.chances(lead, log_nu)
    win, tie = ((each * weights).sum(axis=2) / weights.sum() for each in (mean.win, mean.tie))
    apart = 1 - np.eye(len(strengths))
    return CENTER + POINTS * davidson.fit(win * apart, tie * apart).strengths


def draw(
    rng: np.random.Generator, raters: int, items: int, each: int, log_nu: float, taste: float, fit: float
) -> Votes:
    """``each`` votes a rater, on random items, of random pairs."""
    n, players = raters * each, len(STRENGTHS)
    rater = np.repeat(np.arange(raters), each)
    item = np.concatenate([rng.permutation(items)[np.arange(each) % items] for _ in range(raters)])
    a, b = rng.permuted(PAIRS[rng.integers(len(PAIRS), size=n)], axis=1).T
    liking = taste * rng.normal(size=(raters, players)) / np.sqrt(2)
    suited = fit * rng.normal(size=(items, players)) / np.sqrt(2)
    total = STRENGTHS + liking[rater] + suited[item]
    rows = np.arange(n)
    chance = davidson.chances(total[rows, a] - total[rows, b], log_nu)
    u = rng.random(n)
    points = np.where(u < chance.win, 1.0, np.where(u < chance.win + chance.tie, 0.5, 0.0))
    return Votes.of(a.tolist(), b.tolist(), points.tolist(), rater.tolist(), item.tolist())


def cell(draws: int, raters: int, items: int, each: int, ties: float, taste: float, fit: float) -> tuple[float, float]:
    """Mean standard error over the standard deviation of the ratings, and the coverage, over all players."""
    log_nu = float(np.log(2 * ties / (1 - ties))) if ties else -np.inf
    right = truth(log_nu, float(np.hypot(taste, fit)))
    tables = [
        rate_votes(draw(np.random.default_rng([seed, raters, items]), raters, items, each, log_nu, taste, fit), 4)
        for seed in range(draws)
    ]
    tables = [table for table in tables if None not in table.ratings]
    ratings, stderrs, low, high = (
        np.array([getattr(t, f) for t in tables]) for f in ("ratings", "stderrs", "ci_low", "ci_high")
    )
    ratio = float(np.sqrt((stderrs**2).mean() / ratings.var(axis=0).mean()))
    return ratio, float(((low <= right) & (right <= high)).mean())


def rates(draws: int, people: int, items: int, accuracy: float, share: float = 0.6, ties: float = 0.2) -> list[float]:
    """Bias in standard errors, ratio, coverage and width beside people alone, of rates by both together.

    People's points are 1, 1/2 and 0; the judge repeats them at this accuracy, and otherwise favors the first player.
    """
    found = []
    for seed in range(draws):
        rng = np.random.default_rng([seed, people])
        points = rng.choice([1.0, 0.5, 0.0], items, p=[share, ties, 1 - share - ties])
        judge = np.where(rng.random(items) < accuracy, points, rng.choice([1.0, 0.5, 0.0], items, p=[0.8, 0.1, 0.1]))
        both = prediction_powered(points[:people], judge[:people], judge[people:])
        rate, alone = both.together, both.people
        width = (rate.ci_high - rate.ci_low) / (alone.ci_high - alone.ci_low)
        found.append((rate.value, rate.stderr, rate.ci_low, rate.ci_high, width, rate.stderr <= alone.stderr))
    value, stderr, low, high, width, narrower = np.array(found, float).T
    truth = share + ties / 2
    spread = value.std(ddof=1)
    covered = ((low <= truth) & (truth <= high)).mean()
    return [
        (value.mean() - truth) / spread,
        np.sqrt((stderr**2).mean()) / spread,
        covered,
        width.mean(),
        narrower.mean(),
    ]


def alphas(draws: int, raters: int, items: int, noise: float, missing: float) -> float:
    """Coverage of alpha's interval for the alpha of endless items: raters repeat an item or choose at random."""

    def table(rng: np.random.Generator, items: int) -> np.ndarray:
        value = rng.choice([0.0, 0.5, 1.0], items, p=[0.4, 0.2, 0.4])
        said = np.where(rng.random((raters, items)) < noise, rng.choice([0.0, 0.5, 1.0], (raters, items)), value)
        return np.where(rng.random((raters, items)) < missing, np.nan, said)

    truth = np.mean([krippendorff_alpha(table(np.random.default_rng(10**6 + i), 2000)).alpha for i in range(20)])
    tables = [krippendorff_alpha(table(np.random.default_rng(seed), items)) for seed in range(draws)]
    return float(np.mean([each.ci_low <= truth <= each.ci_high for each in tables]))


def main() -> None:
    """Print the table."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    print("| raters | items | votes | ties | taste, fit | ratio | coverage |")
    print("|---|---|---|---|---|---|---|")
    for raters, items, each in ((12, 30, 30), (12, 300, 60), (40, 30, 30), (40, 300, 60), (4, 100, 100), (1, 300, 300)):
        for ties in (0.0, 0.3, 0.6):
            for taste, fit in ((0.0, 0.0), (0.7, 0.7), (1.5, 0.3)):
                if raters < 10 and taste:
                    taste = 0.0
                ratio, covered = cell(draws, raters, items, each, ties, taste, fit)
                print(
                    f"| {raters} | {items} | {raters * each} | {ties} | {taste}, {fit} | {ratio:.2f} | {covered:.3f} |",
                    flush=True,
                )
    print("\n| people | items | judge right | bias | ratio | coverage | width beside people alone | never wider |")
    print("|---|---|---|---|---|---|---|---|")
    for people, items in ((20, 300), (40, 300), (100, 1000)):
        for accuracy in (0.0, 0.6, 0.8, 0.95, 1.0):
            cells = " | ".join(f"{each:.3f}" for each in rates(10 * draws, people, items, accuracy))
            print(f"| {people} | {items} | {accuracy} | {cells} |", flush=True)
    print("\n| raters | items | at random | missing | coverage of alpha |")
    print("|---|---|---|---|---|")
    for raters, items, noise, missing in ((2, 30, 0.3, 0), (3, 100, 0.3, 0.3), (5, 30, 0.6, 0.3), (3, 100, 1.0, 0.0)):
        covered = alphas(draws, raters, items, noise, missing)
        print(f"| {raters} | {items} | {noise} | {missing} | {covered:.3f} |", flush=True)


if __name__ == "__main__":
    main()
