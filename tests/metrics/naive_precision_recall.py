"""Manifold and memorisation metrics as their papers write them: all pairs, float64, nothing clever."""

from math import comb

import numpy as np


def squared(x, y):
    x, y = (np.asarray(z, np.float64) for z in (x, y))
    return np.square(x[:, None] - y[None]).sum(-1)


def squared_radii(x, k):
    distances = squared(x, x)
    np.fill_diagonal(distances, np.inf)
    return np.sort(distances, axis=1)[:, k - 1]


def prdc(generated, reference, k, closed=False):
    inside = np.less_equal if closed else np.less
    distances = squared(reference, generated)
    held = inside(distances, squared_radii(reference, k)[:, None])
    recalled = inside(distances, squared_radii(generated, k)[None])
    return {
        "precision": held.any(0).mean(),
        "recall": recalled.any(1).mean(),
        "density": 1.0 / k * held.sum(0).mean(),
        "coverage": held.any(1).mean(),
    }


def nearest(queries, points, k):
    distances = squared(queries, points)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(distances, order, 1)), order


def realism(generated, reference, k):
    radii = squared_radii(reference, k)
    kept = (radii <= np.sort(radii)[(len(radii) - 1) // 2]) & (radii > 0)
    with np.errstate(divide="ignore"):
        ratios = radii[None, kept] / squared(generated, reference)[:, kept]
    return np.sqrt(ratios.max(1, initial=0.0))


def authenticity(generated, train):
    distances = squared(generated, train)
    original = distances.argmin(1)
    return (distances.min(1) > squared_radii(train, 1)[original]).mean()


def cosine_distance(generated, train):
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (generated, train))
    return (1 - np.abs(u @ v.T)).min(1).mean()


def ct_score(generated, train, heldout, cells_of, least=20):
    """The average over cells of the z-scored Mann-Whitney U, weighted by held-out samples."""
    cells = [cells_of(x) for x in (generated, train, heldout)]
    weights, scores = [], []
    for cell in np.unique(cells[1]):
        q, t, p = (x[c == cell] for x, c in zip((generated, train, heldout), cells, strict=True))
        if len(q) <= least or not len(p):
            continue
        far, control = squared(q, t).min(1), squared(p, t).min(1)
        u = (far[:, None] > control[None]).sum() + 0.5 * (far[:, None] == control[None]).sum()
        n, m = len(p), len(q)
        scores.append((u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12))
        weights.append(n)
    return np.average(scores, weights=weights)


def clipped(generated, reference, k):
    """Clipped density before its cut at 1, and clipped coverage, whose scale is found by counting."""
    radii = squared_radii(reference, k)
    roots = np.sqrt(radii)
    middle = np.where(roots <= np.median(roots), radii, np.median(roots) ** 2)
    within, across = squared(reference, reference), squared(reference, generated)
    np.fill_diagonal(within, np.inf)
    means = [np.minimum((distances <= middle[:, None]).sum(0), k).mean() for distances in (across, within)]
    n, m = len(generated), len(reference)
    covered = np.minimum((across < radii[:, None]).sum(1), k).mean() / k
    # All orders of c samples and m - 1 others by distance are equally likely: j samples come before the k-th other.
    expected = [
        sum(min(j, k) * comb(k - 1 + j, j) * comb(m - 1 - k + c - j, c - j) for j in range(c + 1))
        / (k * comb(m - 1 + c, c))
        for c in range(k, n + 1)
    ]
    return {"density": means[0] / means[1], "coverage": (np.array([0] * k + expected) < covered).mean()}
