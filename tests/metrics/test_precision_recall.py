import contextlib
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc

from evalsvc.metrics import distances, split_half
from evalsvc.metrics.balls import Radii, neighbor_radii
from evalsvc.metrics.precision_recall import density_coverage, prdc, precision_recall
from evalsvc.metrics.realism import realism
from evalsvc.metrics.score import MetricError
from evalsvc.metrics.units import Units
from tests.metrics import naive_precision_recall as naive


@pytest.fixture
def tiny_blocks(monkeypatch):
    monkeypatch.setattr(distances, "block_side", lambda device: 7)


def values(scores):
    return {name: score.value for name, score in scores.items()}


def normal(seed, n, d=8, shift=0.0, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((n, d)) + shift


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_published_package_gives_the_same_numbers(dtype, k):
    reference, generated = normal(0, 400, 64).astype(dtype), normal(1, 300, 64, shift=0.1, scale=0.9).astype(dtype)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = compute_prdc(reference, generated, nearest_k=k)
    assert values(prdc(generated, reference, k=k)) == expected


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("kind", ["plain", "lattice", "clusters", "copies"])
def test_any_shape_gives_what_all_pairs_give(kind, closed):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        k = int(rng.integers(1, 6))
        n, m, d = (int(size) for size in rng.integers((k + 1, k + 1, 1), (40, 40, 9)))
        x, y = rng.standard_normal((m, d)), rng.standard_normal((n, d)) * rng.uniform(0.5, 1.5)
        if kind == "lattice":
            x, y = x.round(), y.round()
        if kind == "clusters":
            x, y = (1e-6 * z + 3 * np.eye(d)[rng.integers(0, d, len(z))] for z in (x, y))
        if kind == "copies":
            y = x[rng.integers(0, min(m, 4), n)]
        dtype = (np.float32, np.float64)[seed % 2]
        x, y = x.astype(dtype), y.astype(dtype)
        expected = naive.prdc(y, x, k, closed)
        found = values(precision_recall(y, x, k)) if closed else values(prdc(y, x, k))
        assert found == {name: expected[name] for name in found}
        np.testing.assert_allclose(realism(y, x, k), naive.realism(y, x, k), rtol=1e-9)


def test_density_and_coverage_alone_are_those_of_prdc():
    x, y = normal(0, 60), normal(1, 50)
    assert density_coverage(y, x).items() <= prdc(y, x).items()


def test_equal_laws_have_density_one_and_the_analytic_coverage():
    n, k, draws = 200, 5, 30
    found = [values(prdc(normal(2 * i, n, 3), normal(2 * i + 1, n, 3), k)) for i in range(draws)]
    for name, expected in (("density", 1.0), ("coverage", 1 - math.prod((n - i) / (2 * n - i) for i in range(k)))):
        sample = np.array([value[name] for value in found])
        assert abs(sample.mean() - expected) < 4 * sample.std(ddof=1) / math.sqrt(draws)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 100), st.floats(-100, 100))
def test_rotation_shift_scale_and_order_change_nothing(seed, scale, shift):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((40, 5)), rng.standard_normal((30, 5)) + 0.3
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    moved = [scale * z[rng.permutation(len(z))] @ turn + shift for z in (y, x)]
    assert values(prdc(*moved)) == values(prdc(y, x))
    assert values(precision_recall(*moved)) == values(precision_recall(y, x))


def test_swapped_roles_swap_precision_and_recall():
    x, y = normal(0, 90), normal(1, 70, shift=0.4)
    one, other = values(precision_recall(y, x)), values(precision_recall(x, y))
    assert (one["precision"], one["recall"]) == (other["recall"], other["precision"])
    assert one["precision"] != one["recall"]


def test_many_copies_of_ten_images_are_precise_and_recall_nothing():
    reference = normal(0, 400, 32)
    collapsed = np.tile(reference[:10], (30, 1))
    found = values(prdc(collapsed, reference)) | {"closed": precision_recall(collapsed, reference)["recall"].value}
    assert found["precision"] == 1
    assert found["recall"] == 0
    assert found["closed"] == 10 / 400


def test_noise_has_neither_precision_nor_recall():
    found = values(prdc(normal(1, 300, 32, shift=20, scale=5), normal(0, 400, 32)))
    assert found["precision"] == found["recall"] == found["density"] == found["coverage"] == 0


def test_constant_features_give_zero_by_the_strict_rule_and_one_by_the_other():
    x = np.full((20, 6), 0.1)
    assert set(values(prdc(x, x[:15])).values()) == {0}
    assert set(values(precision_recall(x, x[:15])).values()) == {1}


def test_two_sets_of_a_few_repeated_points_are_decided_by_ties_alone():
    points = normal(0, 3, 50)
    x, y = points[np.arange(300) % 3], points[np.arange(200) % 2]
    assert values(precision_recall(y, x)) == {"precision": 1.0, "recall": 2 / 3}
    assert set(values(prdc(y, x)).values()) == {0}


def test_radii_found_once_give_the_same_scores():
    x, y = normal(0, 80), normal(1, 60)
    assert prdc(y, x, reference_radii=neighbor_radii(x, 5)) == prdc(y, x)
    assert (realism(y, x, reference_radii=neighbor_radii(x, 3)) == realism(y, x)).all()


def test_sets_of_one_size_on_three_threads_give_the_same_scores(tiny_blocks):
    x, y = normal(0, 80), normal(1, 70)
    alone = prdc(y, x)
    torch.set_num_threads(3)  # the fixture of all tests restores it
    assert prdc(y, x) == alone
    assert torch.get_num_threads() == 3


def test_the_order_of_batches_in_memory_and_the_container_do_not_matter():
    x, y = normal(0, 80).astype(np.float32), normal(1, 60).astype(np.float32)
    assert prdc(torch.from_numpy(y), torch.from_numpy(x)) == prdc(y, np.asfortranarray(x))


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.uint8])
def test_narrow_types_and_integers_are_promoted(dtype):
    x, y = (np.random.default_rng(i).integers(0, 100, (30, 4)).astype(dtype) for i in range(2))
    assert values(prdc(y, x)) == naive.prdc(y.astype(float), x.astype(float), 5)


def test_realism_is_above_one_just_inside_the_balls_that_count():
    reference = np.arange(5.0)[:, None]
    assert realism(np.array([[1.5], [8.0], [2.0]]), reference, k=1).tolist() == [2.0, 0.25, math.inf]
    assert realism(np.ones((3, 1)), np.ones((9, 1))).tolist() == [0, 0, 0]


def test_small_sets_have_a_value_and_say_why_there_is_no_error():
    found = prdc(normal(0, 8), normal(1, 50))
    assert found["precision"].stderr is not None
    assert found["recall"].stderr is None
    assert "n = 8" in found["recall"].stderr_method
    assert found["precision"].stderr_reference is None
    assert "n = 8" in found["precision"].reference_method


def test_the_halves_of_every_quantity_are_those_of_the_definition():
    x, y, k = normal(0, 40), normal(1, 30, shift=0.3), 2
    units = Units.of(len(y))
    halves = split_half.Halves.of(len(x), units)
    of_x, of_y = (np.unpackbits(words.view(np.uint8), axis=1)[:, 70].astype(bool) for words in vars(halves).values())
    fixed = np.isin(np.arange(len(y)), units.halves[0])
    found = prdc(y, x, k)
    for name, second in (("precision", of_y), ("recall", of_y), ("density", fixed), ("coverage", of_y)):
        shares = np.array(
            [
                [naive.prdc(y[generated], x[reference], k)[name] for reference in (of_x, ~of_x)]
                for generated in (second, ~second)
            ]
        )
        by_reference = shares[:, 0] - shares[:, 1]
        assert found[name].reference.splits[70] == pytest.approx(by_reference.mean(), abs=1e-6)
        assert found[name].reference.noise[70] == pytest.approx((by_reference[0] - by_reference[1]) / 2, abs=1e-6)


def test_certainty_is_never_claimed():
    found = prdc(np.full((50, 3), 100.0), normal(0, 60, 3))
    assert found["precision"].value == found["recall"].value == 0
    assert all(score.ci_high > 0 and score.stderr > 0 for name, score in found.items() if name != "density")


@pytest.mark.parametrize(
    ("n", "m", "k", "message"),
    [
        (1, 50, 5, "generated has n = 1 samples, of which none has k = 5 others"),
        (50, 5, 5, "reference has n = 5 samples"),
        (50, 50, 0, "k = 0"),
    ],
)
def test_too_few_samples_are_an_error_that_names_n_and_k(n, m, k, message):
    with pytest.raises(MetricError, match=message):
        prdc(normal(0, n), normal(1, m), k)


@pytest.mark.usefixtures("shapes_unchecked")
def test_other_bad_inputs_are_named():
    x = normal(0, 20)
    holed = x.copy()
    holed[3, 1] = np.nan
    for generated, message in (
        (holed, "generated holds NaN"),
        (x[:, :3], "columns"),
        (x[0], "shape"),
        (x[:0], "0 rows"),
    ):
        with pytest.raises(MetricError, match=message):
            prdc(generated, x)


def test_radii_of_another_set_or_k_are_refused():
    x = normal(0, 20)
    for radii in (neighbor_radii(x, 3), neighbor_radii(x[:10], 5)):
        with pytest.raises(MetricError, match=r"neighbor_radii\(reference, k=5\)"):
            prdc(x, x, reference_radii=radii)
    assert isinstance(neighbor_radii(x), Radii)
