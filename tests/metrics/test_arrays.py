import numpy as np
import pytest
import torch

from evalsvc.metrics.arrays import as_matrix, as_vector, blocks, same_width
from evalsvc.metrics.score import MetricError


def test_float32_is_not_copied():
    x = np.ones((3, 2), np.float32)
    assert as_matrix(x, "x").data_ptr() == x.ctypes.data


def test_a_memory_map_stays_on_disk(tmp_path):
    x = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(10, 4))
    x[:] = 1
    x.flush()
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert as_matrix(mapped, "x").data_ptr() == mapped.ctypes.data


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, np.int8, np.bool_, np.int64, np.uint32, ">f4", np.longdouble])
def test_other_numbers_are_promoted_without_loss(dtype):
    x = np.array([[0, 1], [1, 1]]).astype(dtype)
    matrix = as_matrix(x, "x")
    assert matrix.dtype in (torch.float32, torch.float64)
    assert matrix.tolist() == [[0, 1], [1, 1]]


def test_large_integers_are_exact():
    assert as_matrix(np.array([[2**53 - 1]]), "x").item() == 2**53 - 1


def test_reversed_rows_are_accepted():
    assert as_matrix(np.arange(6.0).reshape(3, 2)[::-1], "x")[0].tolist() == [4, 5]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_its_row(bad):
    x = np.zeros((5000, 3), np.float32)
    x[4321, 1] = bad
    with pytest.raises(MetricError, match="generated holds NaN or infinity, first in row 4321"):
        as_matrix(x, "generated")


def test_an_overflowing_sum_is_not_mistaken_for_infinity():
    assert len(as_matrix(np.full((4, 2), 1e308), "x")) == 4


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(3), r"shape \(3,\)"),
        (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\)"),
        (np.zeros((0, 3)), "0 rows of 3 columns"),
        (np.zeros((3, 0)), "3 rows of 0 columns"),
        (np.zeros((3, 2), complex), "complex"),
        (np.array([["a"]]), "has dtype"),
        (np.array([[None]]), "has dtype"),
    ],
)
def test_other_shapes_and_types_are_refused(x, message):
    with pytest.raises(MetricError, match=message):
        as_matrix(x, "x")


def test_vectors_are_float64_and_checked():
    assert as_vector(np.array([1, 2], np.int32), "nll").dtype == torch.float64
    with pytest.raises(MetricError, match="nll has shape"):
        as_vector(np.zeros((2, 2)), "nll")
    with pytest.raises(MetricError, match="0 elements"):
        as_vector(np.zeros(0), "nll")


def test_unequal_widths_name_both_sets():
    with pytest.raises(MetricError, match="generated has 3 columns and reference has 4"):
        same_width(torch.zeros(2, 3), torch.zeros(2, 4))


def test_blocks_are_float64_and_complete():
    x = torch.arange(20, dtype=torch.float32).reshape(10, 2)
    parts = list(blocks(x, 3))
    assert [len(part) for part in parts] == [3, 3, 3, 1]
    assert torch.equal(torch.cat(parts), x.double())
