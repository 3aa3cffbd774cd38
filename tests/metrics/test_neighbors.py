import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from evalsvc.metrics import distances, neighbors
from evalsvc.metrics.distances import exact, sweep
from evalsvc.metrics.neighbors import nearest_neighbors, squared_radii, symmetric_shortlist
from evalsvc.metrics.points import common_frame
from evalsvc.metrics.score import MetricError
from tests.metrics import naive_precision_recall as naive


@pytest.fixture
def tiny_blocks(monkeypatch):
    """Blocks of a few rows, so that small inputs cross many of them."""
    monkeypatch.setattr(distances, "block_side", lambda device: 7)


def radii_of(x, k):
    (points,) = common_frame(torch.as_tensor(x))
    return squared_radii(symmetric_shortlist(points, k + 3), points, k).numpy() / points.scale**2


def plain(rng, n, d):
    return rng.standard_normal((n, d))


def on_a_lattice(rng, n, d):
    return rng.integers(0, 3, (n, d)).astype(float)


def far_from_the_origin(rng, n, d):
    return rng.standard_normal((n, d)) + 1e6


def all_equal(rng, n, d):
    return np.full((n, d), 0.1)


def few_distinct(rng, n, d):
    return np.random.default_rng(5).standard_normal((3, d))[rng.integers(0, 3, n)]


def tight_clusters(rng, n, d):
    return few_distinct(rng, n, d) + 1e-6 * rng.standard_normal((n, d))


def huge(rng, n, d):
    return 1e18 * rng.standard_normal((n, d))


def tiny(rng, n, d):
    return 1e-30 * rng.standard_normal((n, d))


def one_outlier(rng, n, d):
    x = rng.standard_normal((n, d))
    x[0] = 1e7
    return x


KINDS = (plain, on_a_lattice, far_from_the_origin, all_equal, few_distinct, tight_clusters, huge, tiny, one_outlier)


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbours_and_radii_are_those_of_a_plain_search(kind, dtype):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        n, m, d = (int(size) for size in rng.integers((1, 12, 1), (30, 50, 12)))
        k = int(rng.integers(1, 9))
        x, y = (kind(rng, size, d).astype(dtype) for size in (n, m))
        found, (expected, _) = nearest_neighbors(x, y, k), naive.nearest(x, y, k)
        np.testing.assert_allclose(found.distances, expected, rtol=1e-12, atol=0)
        own = np.take_along_axis(np.sqrt(naive.squared(x, y)), found.indices, 1)
        np.testing.assert_allclose(own, expected, rtol=1e-12, atol=0)
        np.testing.assert_allclose(radii_of(y, k), naive.squared_radii(y, k), rtol=1e-12, atol=0)


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", [torch.float32, torch.float64])
def test_every_distance_lies_between_its_bounds(kind, product):
    rng = np.random.default_rng(0)
    x, y = (
        points.within(product) for points in common_frame(*(torch.from_numpy(kind(rng, 20, 300)) for _ in range(2)))
    )
    i, j = (index.flatten() for index in torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij"))
    truth = exact(x, i, y, j).view(20, 20)
    for block in sweep(x, y):
        lower = block.lower.double()
        assert (lower <= truth[block.rows, block.columns]).all()
        upper = lower + x.slack[block.rows, None] + y.slack[None, block.columns]
        assert (upper >= truth[block.rows, block.columns]).all()


def test_equal_distances_are_ordered_by_index():
    assert nearest_neighbors(np.zeros((1, 2)), np.tile([[3.0, 4.0]], (60, 1)), k=5).indices.tolist() == [
        [0, 1, 2, 3, 4]
    ]


@pytest.mark.parametrize("again", ["knn", "_among_ties"])
def test_a_list_too_short_for_its_ties_is_searched_again(monkeypatch, again):
    """Hundreds of near copies: float32 cannot order them; hundreds of copies: float64 cannot either."""
    calls = []
    search = getattr(neighbors, again)
    monkeypatch.setattr(neighbors, again, lambda *a, **kw: calls.append(1) or search(*a, **kw))
    rng = np.random.default_rng(1)
    x = (few_distinct if again == "_among_ties" else tight_clusters)(rng, 400, 16)
    queries = x[:20] + 1e-3
    found = nearest_neighbors(queries, x, 3)
    np.testing.assert_allclose(found.distances, naive.nearest(queries, x, 3)[0], rtol=1e-12)
    np.testing.assert_allclose(radii_of(x, 3), naive.squared_radii(x, 3), rtol=1e-12, atol=0)
    assert len(calls) >= (1 if again == "_among_ties" else 2)


def test_scikit_learn_finds_the_same():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((300, 40)), rng.standard_normal((2500, 40))
    distances_, indices = NearestNeighbors(n_neighbors=6, algorithm="brute").fit(y).kneighbors(x)
    found = nearest_neighbors(x, y, 6)
    assert (found.indices == indices).all()
    np.testing.assert_allclose(found.distances, distances_, rtol=1e-12)


def test_a_memory_mapped_file_gives_what_the_array_gives(tmp_path):
    x = np.random.default_rng(3).standard_normal((100, 9)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = nearest_neighbors(x[:10], np.load(tmp_path / "x.npy", mmap_mode="r"), 4)
    in_memory = nearest_neighbors(torch.from_numpy(x[:10]), torch.from_numpy(x), 4)
    assert (mapped.indices == in_memory.indices).all()
    assert (mapped.distances == in_memory.distances).all()


@pytest.mark.usefixtures("tiny_blocks")
def test_the_number_of_threads_changes_nothing_and_is_given_back():
    x = plain(np.random.default_rng(6), 60, 5)
    one = nearest_neighbors(x, x, 3)
    torch.set_num_threads(3)  # the fixture of all tests restores it
    three = nearest_neighbors(x, x, 3)
    assert torch.get_num_threads() == 3
    assert (one.indices == three.indices).all()
    assert (one.distances == three.distances).all()
    np.testing.assert_allclose(radii_of(x, 3), naive.squared_radii(x, 3), rtol=1e-12)


def test_reduced_precision_products_elsewhere_do_not_reach_here():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((200, 64)).astype(np.float32)
    before = nearest_neighbors(x, x, 3)
    torch.set_float32_matmul_precision("medium")
    try:
        after = nearest_neighbors(x, x, 3)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert (before.indices == after.indices).all()


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.uint8])
def test_narrow_types_and_integers_are_promoted(dtype):
    x = np.random.default_rng(5).integers(0, 200, (30, 4)).astype(dtype)
    np.testing.assert_allclose(
        nearest_neighbors(x, x, 2).distances, naive.nearest(x.astype(float), x.astype(float), 2)[0]
    )


@pytest.mark.parametrize(
    ("generated", "train", "k", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3)), 3, "k = 3"),
        (np.zeros((2, 3)), np.zeros((2, 3)), 0, "k = 0"),
        (np.zeros((2, 3)), np.zeros((2, 4)), 1, "columns"),
        (np.zeros((0, 3)), np.zeros((2, 3)), 1, "generated has 0 rows"),
        (np.array([[np.nan]]), np.zeros((2, 1)), 1, "generated holds NaN"),
        (np.full((2, 1), 1e200) * [[1], [-1]], np.zeros((2, 1)), 1, "too large"),
    ],
)
@pytest.mark.usefixtures("shapes_unchecked")
def test_what_cannot_be_searched_is_named(generated, train, k, message):
    with pytest.raises(MetricError, match=message):
        nearest_neighbors(generated, train, k)
