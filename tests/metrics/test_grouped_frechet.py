import numpy as np
import pytest
from scipy.linalg import sqrtm

from evalsvc.metrics.functional import frechet_distance, grouped_frechet_distance
from evalsvc.metrics.moments import Moments
from evalsvc.metrics.score import MetricError


def songs(seed, count, windows=6, d=16):
    rng = np.random.default_rng(seed)
    rows = 2 * rng.standard_normal((count, 1, d)) + rng.standard_normal((count, windows, d))
    return rows.reshape(-1, d), np.arange(count * windows) // windows


def published(x, y):
    """fadtk's distance of two sets of embeddings: np.cov, and the root of the product of both covariances."""
    root = sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)).real
    gap = x.mean(0) - y.mean(0)
    return gap @ gap + np.trace(np.cov(x, rowvar=False)) + np.trace(np.cov(y, rowvar=False)) - 2 * np.trace(root)


@pytest.mark.parametrize("windows", [6, 40])
def test_each_song_has_the_published_distance_in_any_order_of_its_windows(windows):
    reference, _ = songs(0, 100)
    rows, owner = songs(1, 20, windows)
    order = np.random.default_rng(2).permutation(len(rows))
    found = grouped_frechet_distance(rows[order], reference, owner[order])
    each = [published(rows[owner == song], reference) for song in range(20)]
    assert found.value == pytest.approx(np.mean(each), rel=1e-4)
    assert found.stderr == pytest.approx(np.std(each, ddof=1) / 20**0.5, rel=1e-4)
    assert (found.details["lowest"], found.details["highest"]) == pytest.approx((min(each), max(each)), rel=1e-4)
    assert grouped_frechet_distance(rows, Moments.of(reference), owner) == grouped_frechet_distance(
        rows, reference, owner
    )


def test_one_group_has_the_distance_of_the_set_and_no_error():
    reference, _ = songs(0, 100)
    found = grouped_frechet_distance(reference[:50] + 1, reference, np.zeros(50))
    assert found.value == pytest.approx(frechet_distance(reference[:50] + 1, reference).value)
    assert found.stderr is None


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 2]])
def test_rows_without_a_group_of_their_own_are_refused(groups):
    with pytest.raises(MetricError, match="at least two rows"):
        grouped_frechet_distance(songs(1, 1, 5)[0], songs(0, 100)[0], None if groups is None else np.array(groups))
