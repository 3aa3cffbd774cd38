import importlib.metadata
import importlib.util
import json
import os
import resource
import signal

import openvino
import pytest
import torch
from torch import nn

from evalsvc.builtin.extractors import backend_choice, backends
from evalsvc.builtin.extractors.backend_choice import Trial, centered_error
from evalsvc.builtin.extractors.backends import Network, open_backend
from evalsvc.builtin.extractors.batches import Pieces
from evalsvc.builtin.extractors.inception_network import Conv, fold
from evalsvc.core.errors import InputError, ModelError

CPU = torch.device("cpu")
NAMES = ("torch", "openvino", "onnxruntime")


class Small(nn.Module):
    """Two of Inception's convolutions with live batch norms, and two outputs."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Conv(3, 8, (3, 3), stride=2), Conv(8, 8, (1, 7))

    def forward(self, x):
        maps = self.second(self.first(x))
        return maps.mean((2, 3)), maps.amax((2, 3))


@pytest.fixture
def network(home):
    torch.manual_seed(0)
    module = Small().eval().requires_grad_(False)
    for conv in (module.first, module.second):
        conv.bn.running_mean.normal_()
        conv.bn.running_var.uniform_(0.2, 3)
        conv.bn.weight.normal_()
    return Network(module, "small", torch.randn(4, 3, 32, 32), fold)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 3, 9])
def test_every_backend_computes_what_plain_torch_does_at_any_batch_size(network, name, n):
    x = torch.randn(n, 3, 32, 32)
    with torch.inference_mode():
        expected = network.module(x)
    found = open_backend(name, network, CPU)(x)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert torch.allclose(a, b, atol=1e-5)


def test_a_forked_process_may_free_a_network_of_openvino(network):
    backend = open_backend("openvino", network, CPU)
    backend(network.probe)
    if (child := os.fork()) == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(30)  # waiting for a thread that does not exist has no end
        del backend
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_compiled_backend_computes_what_plain_torch_does(network):
    compiled = open_backend("compile", network, CPU)
    for n in (2, 5):
        x = torch.randn(n, 3, 32, 32)
        with torch.inference_mode():
            expected = network.module(x)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(compiled(x), expected, strict=True))


def test_only_the_size_of_a_batch_is_left_open_when_compiling_as_inception_needs(network, monkeypatch):
    seen, compile_ = [], torch.compile

    def record(module, _inputs):
        given = [node.meta["example_value"] for node in module.graph.nodes if node.op == "placeholder"]
        shapes = [[type(size) for size in x.shape] for x in given if isinstance(x, torch.Tensor)]
        seen.extend(shape for shape in shapes if torch.SymInt in shape)
        return module

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", lambda module, **kwargs: compile_(module, backend=record, **kwargs))
    compiled = open_backend("compile", network, CPU)
    for n in (4, 7):
        compiled(torch.randn(n, 3, 32, 32))
    assert seen == [[torch.SymInt, int, int, int]]


def test_an_unknown_precision_lists_those_that_there_are(network):
    with pytest.raises(InputError, match="no precision 'int8'; available are float32, tf32, bfloat16, float16"):
        open_backend("auto", network, CPU, "int8")


def test_folding_leaves_no_batch_norm_and_the_same_numbers(network):
    x = torch.randn(2, 3, 20, 20)
    with torch.inference_mode():
        before = network.module(x)
        module = fold(network.module)
        after = module(x)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(before, after, strict=True))


def test_auto_takes_the_fastest_that_agrees_and_remembers(network, home, monkeypatch):
    speed = {"torch": 10.0, "openvino": 30.0, "onnxruntime": 90.0}
    error = {"torch": 1e-6, "openvino": 5e-5, "onnxruntime": 2e-4}
    tried = []

    def trial(backend, *_):
        tried.append(backend.name)
        return Trial(error=error[backend.name], samples_per_second=speed[backend.name])

    monkeypatch.setattr(backend_choice, "_try", trial)
    assert open_backend("auto", network, CPU).name == "openvino"
    assert tried == list(NAMES)
    assert open_backend("auto", network, CPU).name == "openvino"
    assert tried == list(NAMES)
    (memory,) = (home / "artifacts" / "backends").glob("*.json")
    assert json.loads(memory.read_text())["trials"]["onnxruntime"]["error"] == 2e-4


def test_auto_measures_the_true_error_and_falls_back_to_torch(network, monkeypatch):
    def astray(network):
        return lambda x: tuple(output * 1.001 for output in network.module(x))

    monkeypatch.setattr(backends, "_openvino", lambda network, precision: astray(network))
    monkeypatch.setattr(backends, "_onnxruntime", astray)
    assert open_backend("auto", network, CPU).name == "torch"


def test_auto_chooses_anew_when_a_package_of_its_choice_is_gone(network, monkeypatch):
    speed = {"torch": 10.0, "openvino": 90.0, "onnxruntime": 30.0}
    monkeypatch.setattr(
        backend_choice, "_try", lambda backend, *_: Trial(error=0.0, samples_per_second=speed[backend.name])
    )
    assert open_backend("auto", network, CPU).name == "openvino"
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name))
    assert open_backend("auto", network, CPU).name == "torch"


def test_auto_knows_an_engine_that_came_under_another_name(network, monkeypatch):
    def version(name):
        if name == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(name)
        return importlib.metadata.version(name)

    monkeypatch.setattr(backend_choice, "version", version)
    assert open_backend("auto", network, CPU).name in NAMES


def test_auto_goes_on_without_an_engine_that_does_not_run_and_tries_it_again(network, monkeypatch, caplog):
    def broken(*_):
        raise ImportError("libopenvino.so: cannot open shared object file")

    with monkeypatch.context() as patch:
        patch.setattr(backends, "_openvino", broken)
        assert open_backend("auto", network, CPU).name in ("torch", "onnxruntime")
    assert "backend openvino does not work here and is skipped (ImportError: libopenvino.so" in caplog.text
    tried = []
    monkeypatch.setattr(
        backend_choice,
        "_try",
        lambda backend, *_: tried.append(backend.name) or Trial(error=0.0, samples_per_second=1.0),
    )
    open_backend("auto", network, CPU)
    assert tried == list(NAMES)


def test_openvino_is_always_asked_for_float32_and_gives_bfloat16_only_on_request(network, monkeypatch):
    asked = []
    compile_model = openvino.Core.compile_model

    def record(self, model, device, config):
        asked.append(config["INFERENCE_PRECISION_HINT"])
        compiled = compile_model(self, model, device, config)
        if asked[-1] == "f32":
            assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
        return compiled

    monkeypatch.setattr(openvino.Core, "compile_model", record)
    open_backend("openvino", network, CPU)
    open_backend("auto", network, CPU)
    assert asked
    assert set(asked) == {"f32"}
    open_backend("openvino", network, CPU, "bfloat16")
    assert asked[-1] == "bf16"


def test_reduced_precision_is_coarse_and_still_float32_on_the_way_out(network):
    plain, coarse = (open_backend("torch", network, CPU, p)(network.probe) for p in ("float32", "bfloat16"))
    for a, b in zip(coarse, plain, strict=True):
        assert a.dtype == torch.float32
        assert centered_error(a, b) > 1e-4
        assert torch.allclose(a, b, rtol=0.05, atol=0.05)


def test_a_backend_that_is_not_there_says_which_extra_brings_it(network, monkeypatch):
    for module in (backends, backend_choice):
        monkeypatch.setattr(module, "installed", lambda name: name == "torch")
    with pytest.raises(InputError, match=r"pip install 'evalsvc\[openvino\]'"):
        open_backend("openvino", network, CPU)
    assert open_backend("auto", network, CPU).name == "torch"
    with pytest.raises(InputError, match="there is no backend 'tensorrt'"):
        open_backend("tensorrt", network, CPU)
    with pytest.raises(InputError, match="requires the CPU"):
        open_backend("openvino", network, torch.device("meta"))


def test_the_centred_error_ignores_a_common_offset():
    truth = torch.tensor([[1000.0, 0.0], [1001.0, 1.0]])
    assert centered_error(truth, truth) == 0
    assert centered_error(truth + torch.tensor([[0.0, 0.0], [0.0, 0.1]]), truth) == pytest.approx(0.1, rel=1e-4)


# --- pieces ---


def refusing_above(limit, error):
    seen = []

    def run(piece):
        seen.append(len(piece))
        if len(piece) > limit:
            raise error
        return (piece * 2.0, piece.sum(1, keepdim=True))

    return run, seen


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_pieces_goes_on_and_changes_nothing(error):
    batch = torch.arange(60.0).view(20, 3)
    run, seen = refusing_above(3, error)
    pieces = Pieces(16, "toy")
    doubled, sums = pieces.run(run, batch)
    assert torch.equal(doubled, batch * 2)
    assert torch.equal(sums, batch.sum(1, keepdim=True))
    assert seen == [16, 8, 4] + [2] * 10
    assert pieces.size == 2


def test_a_single_sample_that_does_not_fit_is_named():
    run, _ = refusing_above(0, MemoryError())
    with pytest.raises(ModelError, match="'toy' runs out of memory with a single sample"):
        Pieces(4, "toy").run(run, torch.zeros(5, 2))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    run, seen = refusing_above(0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        Pieces(4, "toy").run(run, torch.zeros(5, 2))
    assert seen == [4]
