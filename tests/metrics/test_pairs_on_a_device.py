"""On a device, in part on it, or staged to it from the host, pairs of rows give what they give on a CPU."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import fields, is_dataclass
from unittest import mock

import numpy as np
import pytest
import torch

from evalsvc.metrics import distances, kernel, neighbors
from evalsvc.metrics.authenticity import training_spacing
from evalsvc.metrics.balls import Radii
from evalsvc.metrics.devices import working_on
from evalsvc.metrics.functional import (
    authenticity,
    clipped_density_coverage,
    feature_likelihood_divergence,
    kernel_audio_distance,
    kernel_distance,
    nearest_neighbors,
    neighbor_radii,
    prdc,
    precision_recall,
    realism,
)
from evalsvc.metrics.points import common_frame
from tests.pretended_device import pretended

METRICS = {
    "precision and recall": lambda x, y, t: precision_recall(x, y),
    "prdc of groups": lambda x, y, t: prdc(x, y, groups=np.arange(len(x)) // 2),
    "prdc, radii known": lambda x, y, t: prdc(x, y, k=3, reference_radii=neighbor_radii(y, 3)),
    "clipped": lambda x, y, t: clipped_density_coverage(x, y, k=3),
    "radii": lambda x, y, t: neighbor_radii(y),
    "realism": lambda x, y, t: realism(x, y),
    "neighbors": lambda x, y, t: nearest_neighbors(x, y, k=4),
    "authenticity": lambda x, y, t: authenticity(x, y, t),
    "authenticity, spacing known": lambda x, y, t: authenticity(x, y, t, training_spacing(y, t)),
    "KID": lambda x, y, t: kernel_distance(x, y, subsets=4, subset_size=25),
    "KID, subset by subset": lambda x, y, t: kernel_distance(x, y, subsets=2, subset_size=3),
    "MMD of groups": lambda x, y, t: kernel_distance(x, y, subsets=None, groups=np.arange(len(x)) // 2),
    "CMMD": lambda x, y, t: kernel_distance(x, y, subsets=None, kernel="rbf", biased=True),
    "KAD": lambda x, y, t: kernel_audio_distance(x, y),
    "FLD": lambda x, y, t: feature_likelihood_divergence(x, y, t),
}
UNREGISTERED = ("radii", "realism", "neighbors")


def normal(seed, n, d=6, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)


def sets(dtype=np.float32, d=6):
    return normal(0, 41, d, dtype), 1.1 * normal(1, 44, d, dtype), normal(2, 24, d, dtype)


DATA = {
    "double": sets(np.float64),
    "lattice": tuple((2 * x).round() for x in sets(d=3)),
    "tight": tuple(1e-5 * x + np.float32(3) * np.eye(6, dtype="f")[np.arange(len(x)) % 3] for x in sets()),
    "copies": (sets()[1][:30], *sets()[1:]),
    "equal": tuple(np.full((n, 3), 0.1, np.float32) for n in (9, 8, 7)),
    "one more than k": tuple(normal(seed, 6) for seed in range(3)),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch, shapes_unchecked):
    """Blocks of a few rows, the same on all devices, so that small inputs cross several."""
    monkeypatch.setattr(distances, "block_side", lambda device: 32)


def measured(metric, data, there=""):
    """The metric with the inputs named by their letters on a device, or all on the host and staged."""
    with pretended() as device:
        given = [device.tensor(rows) if name in there else rows for name, rows in zip("xyt", data, strict=True)]
        with nullcontext() if there else working_on(device.device):
            found = METRICS[metric](*given)
    assert device.synchronizations, "nothing was computed there"
    assert not device.nondeterministic
    return found, device


def leaves(found):
    """All numbers, flags and arrays of a result, which are on the host."""
    if isinstance(found, Mapping):
        found = list(found.values())
    if is_dataclass(found):
        found = [getattr(found, field.name) for field in fields(found)]
    if isinstance(found, list | tuple):
        return [leaf for each in found for leaf in leaves(each)]
    assert isinstance(found, np.ndarray | float | int | str | None)
    return [found]


def assert_same(found, expected):
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        if isinstance(other, float) or (isinstance(other, np.ndarray) and other.dtype.kind == "f"):
            narrow = np.asarray(other).dtype == np.float32
            np.testing.assert_allclose(one, other, rtol=1e-6 if narrow else 1e-9, atol=1e-12)
        else:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_that_are_staged_give_the_numbers_of_the_cpu(metric):
    assert_same(measured(metric, sets())[0], METRICS[metric](*sets()))


@pytest.mark.parametrize("metric", UNREGISTERED)
def test_sets_may_be_on_several_devices(metric):
    expected = METRICS[metric](*sets())
    for there in ("xy", "y") if metric == "radii" else ("xy", "x", "y"):
        assert_same(measured(metric, sets(), there)[0], expected)


@pytest.mark.parametrize("kind", DATA)
def test_data_that_are_hard_to_decide_make_no_difference(kind):
    for metric in ("prdc, radii known", "clipped", "neighbors", "authenticity"):
        assert_same(measured(metric, DATA[kind], "xyt")[0], METRICS[metric](*DATA[kind]))


def test_staged_and_resident_rows_are_decided_alike_where_float32_products_leave_it_open():
    staged, resident = (measured("neighbors", DATA["tight"], there)[0] for there in ("", "xy"))
    assert leaves(staged)[0].tobytes() == leaves(resident)[0].tobytes()
    assert leaves(staged)[1].tobytes() == leaves(resident)[1].tobytes()


def test_radii_of_a_cpu_hold_the_same_copies_on_a_device():
    # Their neighbors lie on the rim itself, at distances whose last digits depend on the order of a sum.
    x = normal(0, 30, 500)
    radii = neighbor_radii(x, 3)
    expected = prdc(x, x, k=3, reference_radii=radii)
    assert expected["density"].value == 1.0
    with pretended() as device:
        on_device = Radii(3, *(device.tensor(each) for each in (radii.squared, radii.neighbors, radii.distances)))
        for known in (radii, on_device):
            found = prdc(device.tensor(x), x, k=3, reference_radii=known)
            assert {name: score.value for name, score in found.items()} == dict.fromkeys(found, 1.0)


def test_radii_that_are_kept_have_the_bits_of_a_cpu_wherever_they_were_found():
    x = normal(0, 30, 500)
    expected = neighbor_radii(x, 3).squared.tobytes()
    with pretended() as device:
        assert neighbor_radii(device.tensor(x), 3).squared.tobytes() == expected
        with working_on(device.device):
            assert neighbor_radii(x, 3).squared.tobytes() == expected


def test_a_distance_on_a_device_is_the_same_in_any_batch():
    x = normal(0, 20, 37)
    i, j = np.random.default_rng(1).integers(0, 20, (2, 50))
    with pretended() as device:
        (points,) = common_frame(device.tensor(x))
        with mock.patch.object(torch.Tensor, "sum", side_effect=AssertionError("its order depends on the shape")):
            found = distances.exact(points, device.tensor(i), points, device.tensor(j)).cpu().numpy()
    truth = np.square(x[i].astype(float) - x[j]).sum(1)
    np.testing.assert_allclose(found / points.scale**2, truth, rtol=1e-14)


@pytest.mark.parametrize(
    ("metric", "within", "across"),
    [("prdc of groups", 2, 6), ("clipped", 2, 4), ("neighbors", 0, 1), ("KID", 0, 0), ("CMMD", 0, 0)],
)
def test_a_device_is_waited_for_a_few_times_a_block(metric, within, across, monkeypatch):
    def waits():
        return measured(metric, sets(), "xyt")[1].synchronizations.total()

    several = waits()
    monkeypatch.setattr(distances, "block_side", lambda device: 64)
    more_within, more_across = 2 * 2, 3  # blocks off the diagonal of both sets, and across
    assert several - waits() <= more_within * within + more_across * across


def test_the_rows_of_all_subsets_are_sent_at_once():
    x, y, _ = sets()
    assert kernel._one_by_one(len(x), len(y), 3, 3), "else there is nothing to send for each subset"
    with pretended() as device:
        there, sent = (device.tensor(x), device.tensor(y)), []
        for subsets in (2, 3):
            device.forget()
            kernel_distance(*there, subsets=subsets, subset_size=3)
            sent.append(device.copies.total())
    assert sent[0] == sent[1]


def test_rows_are_on_their_way_before_the_block_that_needs_them_and_once_for_a_row_of_blocks():
    with pretended() as device, working_on(device.device):
        x, y = common_frame(torch.from_numpy(normal(0, 70)), torch.from_numpy(normal(1, 90)))
        device.forget()
        sent = [device.copies.total() for _ in distances.sweep(x, y)]
        assert not device.synchronizations
    assert sent == [3, 4, 6, 7, 8, 10, 11, 12, 12]


def test_memory_beside_a_block_has_a_bound(monkeypatch):
    # Ever nearer points enter every list in every block.
    x = normal(0, 400, 2)
    x = x[np.argsort(-np.square(x).sum(1))]
    y, entered, enter = x + np.float32(0.1), [], neighbors.Shortlist.enter

    def watched(self, rows, row, index, key):
        entered.append(len(row))
        enter(self, rows, row, index, key)

    monkeypatch.setattr(distances, "block_side", lambda device: 128)
    expected = prdc(y, x, k=1)
    monkeypatch.setattr(distances, "_MOST_PAIRS", 2000)
    monkeypatch.setattr(neighbors.Shortlist, "enter", watched)
    with pretended(largest=len(x) ** 2 - 1) as device:  # bytes: nothing is there for each pair of rows
        assert_same(prdc(device.tensor(y), device.tensor(x), k=1), expected)
    assert 1900 < max(entered) <= 2000
