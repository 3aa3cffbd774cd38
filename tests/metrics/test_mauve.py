import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from evalsvc.metrics.kmeans import kmeans
from evalsvc.metrics.mauve import _principal, divergence_frontier, frontier_area, mauve, mauve_star
from evalsvc.metrics.score import MetricError

histograms = (
    st.lists(st.integers(0, 50), min_size=6, max_size=6).filter(any).map(lambda counts: np.divide(counts, sum(counts)))
)


def normal(n, d, seed, shift=0.0):
    return (np.random.default_rng(seed).standard_normal((n, d)) + shift * np.eye(d)[0]).astype(np.float32)


def test_disjoint_histograms_reach_the_area_of_the_grid():
    """1/252 = 5 B(6, 5) for the smooth frontier; 0.0040721 by trapezoids on 25 mixtures."""
    area = frontier_area(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert area == pytest.approx(0.0040721, abs=5e-8)
    assert area == pytest.approx(1 / 252, rel=0.03)


def test_a_known_pair_of_histograms():
    assert frontier_area(np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])) == pytest.approx(0.82140998, abs=5e-9)


@given(histograms)
def test_equal_histograms_fill_the_square(p):
    assert frontier_area(p, p) == pytest.approx(1, abs=1e-12)


@given(histograms, histograms)
def test_the_area_is_symmetric_and_within_its_bounds(p, q):
    area = frontier_area(p, q)
    assert frontier_area(q, p) == pytest.approx(area, rel=1e-9)
    assert 0.004 < area <= 1 + 1e-12


@given(histograms, histograms)
def test_the_frontier_falls_from_one_end_to_the_other(p, q):
    x, y = divergence_frontier(p, q)
    assert (np.diff(x) <= 1e-12).all()
    assert (np.diff(y) >= -1e-12).all()
    assert (x[0], y[0], x[-1], y[-1]) == (1, 0, 0, 1)


def test_a_set_against_itself_scores_one():
    x = normal(100, 8, 0)
    assert mauve(x, x).value == pytest.approx(1, abs=1e-12)
    assert mauve_star(x, x).value == pytest.approx(1, abs=1e-12)


def test_sets_far_apart_score_as_disjoint():
    assert mauve(normal(100, 8, 0, 50), normal(100, 8, 1, -50)).value == pytest.approx(0.0040721, abs=5e-8)


def test_further_apart_is_lower():
    reference = normal(300, 6, 0)
    values = [mauve(normal(300, 6, 1, shift), reference).value for shift in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True)


def test_pseudocounts_soften_disjoint_sets():
    far = normal(100, 8, 0, 50), normal(100, 8, 1, -50)
    assert mauve_star(*far).value > mauve(*far).value


def test_length_of_the_embeddings_does_not_matter():
    a, b = normal(150, 6, 0), normal(150, 6, 1, 0.5)
    scale = np.random.default_rng(2).uniform(0.5, 2e30, (150, 1)).astype(np.float32)
    assert mauve(a * scale, b).value == pytest.approx(mauve(a, b).value, abs=0.02)


def test_arrays_and_tensors_agree_and_seeds_are_fixed():
    a, b = normal(150, 6, 0), normal(120, 6, 1)
    assert mauve(a, b) == mauve(torch.from_numpy(a), torch.from_numpy(b))


def test_the_spread_over_seeds_is_reported_and_no_error_is_claimed():
    score = mauve(normal(150, 6, 0), normal(150, 6, 1), seeds=3)
    assert score.details["seed_sd"] > 0
    assert score.details["bins"] == 15
    assert score.stderr is None
    assert "clusterings" in score.stderr_method
    assert "seed_sd" not in mauve(normal(150, 6, 0), normal(150, 6, 1), seeds=1).details


def test_constant_embeddings_are_one_point_and_score_one():
    x = np.ones((50, 4), dtype=np.float32)
    assert mauve(x, x).value == 1
    assert mauve(np.zeros((50, 4)), np.zeros((50, 4))).value == 1


@pytest.mark.parametrize("seed", range(4))
def test_kmeans_is_lloyds_algorithm(seed):
    x = torch.from_numpy(normal(600, 5, seed))
    start = x[torch.from_numpy(np.random.default_rng(seed).choice(600, 12, replace=False))].double().numpy()
    expected = KMeans(12, init=start, n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(x.double().numpy())
    assert (kmeans(x, 12, seed).numpy() == expected.labels_).all()


def test_kmeans_survives_fewer_distinct_rows_than_clusters():
    x = torch.tensor([[0.0], [1.0]]).repeat(20, 1)
    labels = kmeans(x, 8, 0)
    assert len(set(labels[::2].tolist())) == len(set(labels[1::2].tolist())) == 1


def test_principal_components_are_scikit_learns_up_to_sign():
    x = normal(300, 12, 0) * np.arange(1, 13, dtype=np.float32)
    ours, theirs = _principal(torch.from_numpy(x)).numpy(), PCA(0.9, svd_solver="full").fit_transform(x)
    assert ours.shape == theirs.shape
    assert np.abs(ours[:, ::-1]) == pytest.approx(np.abs(theirs), abs=1e-3)


@pytest.mark.parametrize(
    ("generated", "reference", "says"),
    [
        (np.ones((19, 3)), np.ones((50, 3)), "at least 20"),
        (np.ones((50, 3)), np.ones((50, 4)), "columns"),
        (np.full((50, 3), np.nan), np.ones((50, 3)), "NaN"),
    ],
)
def test_what_cannot_be_compared_is_refused(generated, reference, says):
    with pytest.raises(MetricError, match=says):
        mauve(generated, reference)


def test_no_clustering_is_refused():
    with pytest.raises(MetricError, match="seeds=0"):
        mauve(np.ones((50, 3)), np.ones((50, 3)), seeds=0)


@pytest.mark.parametrize(
    ("seed", "n", "m", "d", "shift", "decay", "published", "spread"),
    [
        (0, 400, 400, 24, 0.6, 0.5, 0.7474859821844503, 0.0336),
        (2, 400, 600, 64, 0.3, 0.25, 0.9587347426298165, 0.0095),
    ],
)
def test_features_of_any_kind_score_as_the_authors_package_scores_them(seed, n, m, d, shift, decay, published, spread):
    """mauve-text 0.4.0 on the same arrays, mean and spread over 8 seeds: its k-means is another, by faiss."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, d + 1) ** -decay
    reference = (rng.standard_normal((m, d)) * scale + 2).astype(np.float32)
    generated = (rng.standard_normal((n, d)) * scale + 2 + shift * np.eye(d)[0]).astype(np.float32)
    assert mauve(generated, reference).value == pytest.approx(published, abs=1.5 * spread)
