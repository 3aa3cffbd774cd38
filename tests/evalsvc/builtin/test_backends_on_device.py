"""The choice of a backend on a device, and TensorFloat-32 as a protocol, on a pretended device."""

import copy
import logging
import threading
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from evalsvc.builtin.extractors import backend_choice
from evalsvc.builtin.extractors.backend_choice import Trial, centered_error
from evalsvc.builtin.extractors.backends import open_backend
from evalsvc.core.errors import InputError
from evalsvc.metrics.full_precision import full_precision, tensor_float32
from evalsvc.metrics.functional import frechet_distance
from tests.evalsvc.builtin.test_backends import CPU, network  # noqa: F401  (a fixture)
from tests.evalsvc.builtin.test_extractors_on_device import fast_switches  # noqa: F401  (a fixture)
from tests.pretended_device import PretendedDevice, pretended

# ruff: noqa: F811


@pytest.fixture(autouse=True)
def triton(monkeypatch):
    monkeypatch.setattr(backend_choice, "installed", lambda name: True)


def expected(network):
    with torch.inference_mode(), full_precision():
        return network.module(network.probe)


@pytest.mark.parametrize(
    ("speeds", "errors", "chosen"),
    [
        ((10, 12, 14, 17), (1e-6, 1e-6, 1e-6, 1e-6), "contiguous"),
        ((10, 12, 15, 22), (1e-6, 1e-6, 1e-6, 1e-6), "compile"),
        ((10, 12, 15, 23), (1e-6, 1e-6, 1e-6, 5e-6), "split"),
        ((10, 12, 99, 99), (1e-6, 2e-4, 2e-3, 2e-4), "torch"),
        ((10, 12, 99, 99), (1e-3, 1e-3, 1e-3, 1e-3), "torch"),
    ],
)
def test_the_fastest_that_agrees_is_taken_and_remembered_for_this_device(
    network, home, monkeypatch, speeds, errors, chosen
):
    tried = []

    def trial(backend, *_):
        tried.append(backend.name)
        place = backend_choice.CANDIDATES["cuda"].index(backend.name)
        return Trial(error=errors[place], samples_per_second=speeds[place])

    monkeypatch.setattr(backend_choice, "_try", trial)
    monkeypatch.setattr(torch, "compile", lambda module: module)
    with pretended() as device:
        for _ in range(2):
            # The layout of its arrays is not part of the name of an engine.
            assert open_backend("auto", network, device.device).name == ("torch" if chosen == "contiguous" else chosen)
        assert tried == ["torch", "contiguous", "compile", "split"]
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "another device")
        open_backend("auto", network, device.device)
        monkeypatch.setattr(backend_choice, "installed", lambda name: name != "compile")
        assert open_backend("auto", network, device.device).name in ("torch", "split")
    assert len(tried) == 11
    assert len(list((home / "artifacts" / "backends").glob("*.json"))) == 3


def test_each_layout_is_tried_on_full_batches_against_the_cpu_and_gives_its_numbers(network, home, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("Cannot find a working triton installation")

    seen, trial = {}, backend_choice._try
    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(backend_choice, "TRIAL", 8)
    monkeypatch.setattr(
        backend_choice, "_try", lambda *given: seen.setdefault((given[0].name, len(given[1])), trial(*given))
    )
    caplog.set_level(logging.WARNING)
    monkeypatch.setitem(backend_choice.GAIN, "split", 1e9)
    with PretendedDevice() as device:
        backend = open_backend("auto", network, device.device)
        with full_precision():
            found = backend(network.probe)
    assert (
        "backend compile does not work here and is skipped (RuntimeError: Cannot find a working triton" in caplog.text
    )
    assert len(list((home / "artifacts" / "backends").glob("*.json"))) == 1, "a minute to compile is spent once"
    assert set(seen) == {("torch", 8), ("contiguous", 8), ("split", 8)}
    assert max(each.error for each in seen.values()) < backend_choice.TOLERANCE
    assert backend.name == "torch"
    assert all(torch.allclose(a.inner, b, atol=1e-5) for a, b in zip(found, expected(network), strict=True))


def test_a_device_that_is_full_during_the_trial_is_used_plainly_and_tried_again(network, home, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(backend_choice, "_try", full)
    monkeypatch.setattr(torch, "compile", lambda module: module)
    with pretended() as device:
        assert open_backend("auto", network, device.device).name == "torch"
    assert not list((home / "artifacts" / "backends").glob("*.json"))


def test_tf32_is_computed_where_it_is_asked_for_and_nowhere_else(network):
    with PretendedDevice() as device:
        coarse, full = (open_backend("torch", network, device.device, each) for each in ("tf32", "float32"))
        with full_precision():
            rough = coarse(network.probe)
            assert len(device.tf32) > 0
            assert not device.full_float32
            device.forget()
            fine = full(network.probe)
            assert not device.tf32
        for a, b, truth in zip(rough, fine, expected(network), strict=True):
            assert 2e-4 < centered_error(a.inner, truth) < 1e-2
            assert centered_error(b.inner, truth) < 1e-4
    for kind in (CPU, torch.device("mps")):
        with pytest.raises(InputError, match="precision 'tf32' is computed by CUDA devices only"):
            open_backend("auto", network, kind, "tf32")


@pytest.mark.parametrize("everything", ["none", "tf32"])
def test_after_the_last_network_in_tf32_all_is_as_it_was_found(everything, monkeypatch):
    monkeypatch.setattr(torch.backends, "fp32_precision", everything)

    def state():
        backends = torch.backends
        return [each.fp32_precision for each in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)]

    entered, leave = threading.Event(), threading.Event()

    def other():
        with tensor_float32():
            entered.set()
            leave.wait(10)

    before, thread = state(), threading.Thread(target=other)
    with full_precision():
        full = state()
        assert "tf32" not in full
        with tensor_float32():
            assert state() == ["tf32"] * 3
            with full_precision():
                assert state() == ["tf32"] * 3, "a guard within does not undo it"
            thread.start()
            assert entered.wait(10)
        assert state() == ["tf32"] * 3, "the other still computes"
        leave.set()
        thread.join()
        assert "tf32" not in state()
    assert state() == before


def test_split_convolutions_are_as_accurate_as_float32_and_products_stay_in_it(network):
    class WithHead(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body, self.head = body, nn.Linear(8, 8).requires_grad_(False)

        def forward(self, x):
            return (self.head(self.body(x)[0]),)

    network = replace(network, module=WithHead(network.module))
    (truth,) = (each.float() for each in copy.deepcopy(network.module).double()(network.probe.double()))
    with PretendedDevice() as device:
        errors = {}
        for backend, precision in (("torch", "float32"), ("split", "float32"), ("torch", "tf32")):
            opened = open_backend(backend, network, device.device, precision)
            device.forget()
            with full_precision():
                (found,) = opened(network.probe)
            errors[backend, precision] = centered_error(found.inner, truth)
            operators = Counter(name for name, _ in device.tf32.elements())
            if backend == "split":
                assert list(operators.values()) == [6], "three for each of two convolutions"
    assert errors["split", "float32"] < 3 * errors["torch", "float32"] + 1e-6
    assert errors["torch", "tf32"] > 100 * errors["split", "float32"]
    for device, precision in ((CPU, "float32"), (torch.device("cuda"), "tf32")):
        with pytest.raises(InputError, match="backend 'split' computes float32 on CUDA devices only"):
            open_backend("split", network, device, precision)


def test_split_convolutions_do_not_move_a_frechet_distance_against_a_reference_in_float32(network):
    """By less than a tenth of its standard error at 10,000 samples."""
    sets = [torch.randn(200, 3, 16, 16) * scale for scale in (1.0, 1.1)]
    with full_precision():
        plain, reference = (open_backend("torch", network, CPU)(x)[0] for x in sets)
        with PretendedDevice() as device:
            found = open_backend("split", network, device.device)(sets[0])[0].cpu()
    truth = frechet_distance(plain, reference)
    assert abs(frechet_distance(found, reference).value - truth.value) < truth.stderr * (200 / 10_000) ** 0.5 / 10
