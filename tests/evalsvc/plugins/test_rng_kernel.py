"""The kernel of CUDA gives the numbers of the operators: its source, compiled for the CPU, is called in its place."""

import ctypes
import logging
import shutil
import subprocess
from unittest import mock

import pytest
import torch

from evalsvc.plugins import rng, rng_kernel
from evalsvc.plugins.samples import SampleRequest
from tests.pretended_device import PretendedDevice, PretendedTensor, pretended

LAWS = ("uniform", "normal")
LOOP = """
extern "C" void LAW(long n, const int64_t* seeds, const int64_t* streams, const int64_t* pairs, int64_t* out) {
    for (long i = 0; i < n; ++i) out[i] = philox_LAW<long long>(seeds[i], streams[i], pairs[i]);
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The functions of the source by their law, of tensors on the CPU or on the pretended device."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("kernel")
    parts = [rng_kernel.source(law) + LOOP.replace("LAW", law) for law in LAWS]
    (folder / "kernel.cpp").write_text("\n".join(["#include <cmath>", "#include <cstdint>", *parts]))
    command = ["g++", "-shared", "-fPIC", "-O1", "-o", folder / "kernel.so", folder / "kernel.cpp"]
    subprocess.run(command, check=True, timeout=60)
    library = ctypes.CDLL(str(folder / "kernel.so"))

    def elementwise(law):
        def call(*given):
            if PretendedDevice.current is not None:
                PretendedDevice.current.operators += 1
            inner = [x.inner if isinstance(x, PretendedTensor) else x for x in given]
            rows = [x.contiguous() for x in torch.broadcast_tensors(*inner)]
            out = torch.empty_like(rows[0], memory_format=torch.contiguous_format)
            addresses = [ctypes.c_void_p(x.data_ptr()) for x in (*rows, out)]
            getattr(library, law)(ctypes.c_long(out.numel()), *addresses)
            return PretendedTensor(out, given[0].device) if inner[0] is not given[0] else out

        return call

    return {rng_kernel.source(law): elementwise(law) for law in LAWS}


@pytest.fixture
def fused(compiled, monkeypatch):
    """torch builds the kernel, as on CUDA."""
    monkeypatch.setattr(torch.cuda.jiterator, "_create_jit_fn", lambda source: compiled[source])
    rng.fused.cache_clear()
    yield
    rng.fused.cache_clear()


def far(x, y):
    """Distances in units of the last place."""
    return (x.view(torch.int32).long() - y.view(torch.int32).long()).abs()


def test_uniforms_of_the_kernel_have_the_same_bits_and_normals_nearly_always(fused):
    seeds = torch.cat([rng.sample_seeds(7, 0, 300), torch.tensor([0, -1, 2**63 - 1, 2**32])])
    for streams in (range(1), range(2**31 - 1, 2**33, 2**32 + 1), range(2**40, 2**40 + 3)):
        numbers = torch.arange(streams.start, streams.stop, streams.step)
        uniforms, normals = (rng_kernel.kernel(law)(seeds, numbers, 98) for law in LAWS)
        assert torch.equal(uniforms, rng._uniforms(seeds, numbers, 98))
        distance = far(normals, rng._normals(seeds, numbers, 98))
        assert int(distance.max()) <= 1
        assert float((distance > 0).double().mean()) < 1e-6


@pytest.mark.parametrize("law", LAWS)
def test_torch_reads_the_name_of_the_function_from_its_source(law):
    assert torch.cuda.jiterator._create_jit_fn(rng_kernel.source(law)).kernel_name == f"philox_{law}"


@pytest.mark.parametrize("draw", LAWS)
def test_a_draw_on_cuda_is_a_few_operators_of_which_none_waits(fused, draw):
    right = getattr(SampleRequest.of(7, 0, 5), draw)(3, 7)
    with pretended() as device:
        request = SampleRequest.of(7, 0, 5, device.device)
        getattr(request, draw)(3, 7)  # which tries the kernel
        device.forget()
        drawn = getattr(request, draw)(3, 7)
        assert device.operators <= 10
        assert not device.synchronizations
        assert torch.equal(drawn.cpu(), right)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (mock.Mock(side_effect=AttributeError("no such function")), "no such function"),
        (lambda source: mock.Mock(side_effect=RuntimeError("no NVRTC\nat all")), "no NVRTC"),
        (lambda source: lambda seeds, streams, pairs: seeds + streams + pairs, "it gives other numbers"),
    ],
)
def test_where_the_kernel_fails_operators_draw_and_the_log_says_so_once(monkeypatch, caplog, make, reason):
    monkeypatch.setattr(torch.cuda.jiterator, "_create_jit_fn", make)
    rng.fused.cache_clear()
    with pretended() as device, caplog.at_level(logging.WARNING):
        drawn = [SampleRequest.of(7, 0, 5, device.device).normal(9).cpu() for _ in range(2)]
    rng.fused.cache_clear()
    (message,) = caplog.messages
    assert message.endswith(f"which is slower: {reason}")
    assert all(torch.equal(each, SampleRequest.of(7, 0, 5).normal(9)) for each in drawn)


def test_a_full_device_does_not_count_against_the_kernel(monkeypatch):
    full = mock.Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(torch.cuda.jiterator, "_create_jit_fn", lambda source: full)
    rng.fused.cache_clear()
    with pretended() as device:
        for _ in range(2):
            with pytest.raises(torch.OutOfMemoryError):
                SampleRequest.of(7, 0, 5, device.device).normal(9)
    assert full.call_count == 2


def test_a_device_without_float64_has_the_numbers_of_the_cpu():
    with pretended("mps") as device:
        request, right = SampleRequest.of(7, 0, 5, device.device), SampleRequest.of(7, 0, 5)
        for draw in LAWS:
            drawn = getattr(request, draw)(3, 7, stream=2)
            assert drawn.device == device.device
            assert torch.equal(drawn.cpu(), getattr(right, draw)(3, 7, stream=2))
