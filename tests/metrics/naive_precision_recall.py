"""Manifold and memorisation metrics as their papers write them: all pairs, float64, nothing clever."""

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
