import dataclasses
import logging

import numpy as np
import pytest
import torch

from evalsvc.evaluation.placement import SHARE, Placement
from evalsvc.metrics.arrays import as_matrix, blocks
from evalsvc.metrics.devices import device_of
from evalsvc.metrics.registry import METRICS
from tests.pretended_device import PretendedTensor, pretended

CUDA = torch.device("cuda", 0)
ANY = METRICS["precision_recall"]


def matrices(*sizes):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, 8)).astype(np.float32) for n in sizes]


def uploads(device):
    return sum(times for (where, _), times in device.copies.items() if where == "to device")


def where(given):
    """What a metric sees: the kind of its arrays, and where it computes."""
    arrays = [torch.from_numpy(each) if isinstance(each, np.ndarray) else each for each in given.values()]
    return {type(each).__name__ for each in given.values()}, device_of(*arrays).type


def test_a_matrix_is_uploaded_once_for_all_metrics_and_leaves_with_its_array():
    generated, train, other = matrices(20, 30, 10)
    with pretended() as device:
        placement = Placement(CUDA)
        seen = [placement.compute(ANY, {"generated": generated, "train": train}, dict) for _ in range(3)]
        assert uploads(device) == 2
        assert all(seen[0][name] is each[name] for each in seen for name in each)
        assert np.array_equal(seen[0]["train"].cpu().numpy(), train)
        placement.compute(ANY, {"x": other}, where)
        assert [each.shape for each in placement._uploaded.values()] == [(20, 8), (30, 8), (10, 8)]
        del other
        assert len(placement._uploaded) == 2


def test_a_large_matrix_is_uploaded_in_pieces(monkeypatch):
    monkeypatch.setattr("evalsvc.evaluation.placement.PIECE", 7 * 8 * 4)
    (generated,) = matrices(20)
    with pretended(largest=generated.nbytes) as device:
        copy = Placement(CUDA).compute(ANY, {"generated": generated}, lambda given: given["generated"])
        assert uploads(device) == 3
        assert np.array_equal(copy.cpu().numpy(), generated)


def test_matrices_that_do_not_fit_all_stay_on_the_host_and_are_computed_in_blocks():
    generated, train, heldout = matrices(20, 30, 20)
    room = (generated.nbytes + heldout.nbytes) / SHARE
    with pretended(free=int(room - generated.nbytes)):  # the pretended device does not count what it holds
        placement = Placement(CUDA)
        assert placement.compute(ANY, {"generated": generated}, where) == ({"PretendedTensor"}, "cuda")
        assert placement.compute(ANY, {"generated": generated, "train": train}, where) == ({"ndarray"}, "cuda")
        both = {"generated": generated, "heldout": heldout}
        assert placement.compute(ANY, both, where) == ({"PretendedTensor"}, "cuda")


def test_other_arguments_and_metrics_of_plug_ins_get_their_arrays_as_they_are():
    generated, sums = matrices(20, 20)
    with pretended():
        given = {"generated": generated, "sums": sums, "groups": np.arange(20), "k": 3}
        seen = Placement(CUDA).compute(ANY, given, dict)
        assert isinstance(seen.pop("generated"), PretendedTensor)
        assert all(seen[name] is given[name] for name in seen)
        theirs = dataclasses.replace(ANY, function=lambda **given: where(given))
        assert Placement(CUDA).measure(theirs, {"generated": generated}) == ({"ndarray"}, "cpu")


@pytest.mark.parametrize("kind", ["cpu", "mps"])
def test_other_devices_take_the_arrays_as_they_are(kind):
    (generated,) = matrices(20)
    given = Placement(torch.device(kind)).compute(ANY, {"generated": generated}, lambda given: given["generated"])
    assert given is generated


@pytest.mark.parametrize("fits", ["on the device", "in blocks", "on the host"])
def test_full_memory_is_met_in_blocks_then_on_the_host_and_said_once(fits, caplog):
    generated, train = matrices(20, 30)
    tried = []

    with pretended() as device:
        placement = Placement(CUDA)

        def work(given):
            kinds, at = where(given)
            tried.append({"PretendedTensor": "on the device", "ndarray": "in blocks"}[kinds.pop()])
            if at == "cpu":
                tried[-1] = "on the host"
            held = len(placement._uploaded)
            assert held == (2 if tried[-1] == "on the device" else 0)
            if tried[-1] != fits:
                raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
            return sum(float(block.sum()) for each in given.values() for block in blocks(as_matrix(each, "x")))

        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                found = placement.compute(ANY, {"generated": generated, "train": train}, work)
                assert found == pytest.approx(generated.sum(dtype=float) + train.sum(dtype=float))
        assert not device.tf32
    steps = ["on the device", "in blocks", "on the host"]
    steps = steps[: steps.index(fits) + 1]
    assert tried[: len(steps)] == steps
    said = [record.message for record in caplog.records if "in blocks" in record.message]
    assert len(said) == (fits != "on the device")


def test_what_fails_on_the_host_too_and_what_is_no_lack_of_memory_raises():
    (generated,) = matrices(20)
    with pretended():
        for error, times in ((MemoryError(), 3), (RuntimeError("CUDA error: an illegal memory access"), 1)):
            tried = []

            def work(given, error=error, tried=tried):
                tried.append(given)
                raise error

            with pytest.raises(type(error)):
                Placement(CUDA).compute(ANY, {"generated": generated}, work)
            assert len(tried) == times
