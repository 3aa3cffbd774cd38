"""Factorizations on a device or by the host: one result, one choice, nothing measured without a device."""

from __future__ import annotations

import pytest
import torch

from evalsvc.metrics import factorizations
from tests.pretended_device import pretended

SQUARE = torch.randn(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MATRIX = SQUARE @ SQUARE.T
OPERATIONS = ("eigh", "eigvalsh", "cholesky_ex", "svd", "svdvals", "qr_upper")
CPU = torch.device("cpu")


def _parts(found: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (found,) if isinstance(found, torch.Tensor) else tuple(found)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("by_host", [False, True])
def test_a_factorization_is_the_same_wherever_it_is_done_and_returns_to_the_device(name, by_host):
    operation = getattr(factorizations, name)
    expected = _parts(operation(MATRIX))
    with pretended() as device:
        factorizations.use(device.device, factorizations.OPERATIONS if by_host else ())
        found = _parts(operation(device.tensor(MATRIX)))
        assert {each.device for each in found} == {device.device}
        assert bool(device.copies) is by_host
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(other.cpu(), one, rtol=1e-12, atol=1e-12)


def test_on_the_host_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(factorizations, "measure", lambda device: pytest.fail("measured"))
    assert factorizations.eigh(MATRIX)[0].device == CPU
    assert factorizations.is_on_host("product", CPU)


def test_a_device_is_measured_at_its_first_use_once_and_not_after_a_choice_was_set(monkeypatch):
    measured = []

    def measure(device):
        measured.append(device)
        return {"eigh": {"device": 2.0, "host": 1.0}, "svd": {"device": 1.0, "host": 2.0}}

    monkeypatch.setattr(factorizations, "measure", measure)
    monkeypatch.setattr(factorizations, "_on_host", {})
    first = torch.device("cuda", 0)
    assert factorizations.is_on_host("eigh", first)
    assert not factorizations.is_on_host("svd", first)
    with pretended() as device:
        factorizations.use(torch.device("cuda"), ["svd"])
        assert factorizations.is_on_host("svd", device.device)
    assert measured == [first]


def test_a_measurement_has_both_times_of_each_operation_and_chooses_the_faster(monkeypatch):
    monkeypatch.setattr(factorizations, "_SIZE", 16)
    with pretended() as device:
        seconds = factorizations.measure(device.device)
    assert set(seconds) == set(factorizations.OPERATIONS)
    assert all(times["device"] > 0 and times["host"] > 0 for times in seconds.values())
    times = {"eigh": {"device": 1.0, "host": 0.5}, "qr": {"device": 0.5, "host": 1.0}}
    assert factorizations.faster_on_host(times) == {"eigh"}


def test_an_unknown_operation_is_refused_by_name():
    with pytest.raises(ValueError, match=r"unknown operations \['lu'\]: choose among eigh"):
        factorizations.use(CPU, ["lu"])
