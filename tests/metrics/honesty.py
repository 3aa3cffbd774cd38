"""Whether standard errors tell the truth, by redrawing the generated set against one fixed reference."""

import numpy as np

from tests.shapes import unchecked

DRAWS = 300


def repeated(draw, times=DRAWS):
    """``draw(i)`` for each i; shapes, which are the same in all, are checked in the first alone: checks are slow."""
    first = draw(0)
    with unchecked():
        return [first, *(draw(i) for i in range(1, times))]


def assert_honest(draw, truth=None, ratio=(0.85, 1.15), coverage=(0.92, 0.98), first_seed=0):
    """``draw(rng)`` gives a score; the truth is the mean of all of them unless it is known."""
    assert_scores_honest(repeated(lambda i: draw(np.random.default_rng(first_seed + i))), truth, ratio, coverage)


def assert_scores_honest(scores, truth=None, ratio=(0.85, 1.15), coverage=(0.92, 0.98)):
    """The same of scores that have been drawn."""
    values, stderrs = np.array([s.value for s in scores]), np.array([s.stderr for s in scores])
    truth = values.mean() if truth is None else truth
    found = stderrs.mean() / values.std(ddof=1)
    covered = np.mean([s.ci_low <= truth <= s.ci_high for s in scores])
    assert ratio[0] <= found <= ratio[1], (found, covered)
    assert coverage[0] <= covered <= coverage[1], (found, covered)
