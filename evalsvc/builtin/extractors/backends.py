"""The engines that can run a network's forward pass, and the choice of the fastest one that computes the same.

A float32 backend never changes a protocol: each must agree with plain float32 PyTorch on this machine before ``auto``
takes it. Reduced precision is asked for by name, and the extractor writes it into its protocol.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import logging
import platform
import timeit
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from pydantic import BaseModel
from torch import Tensor, nn

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.store.artifacts import Artifacts

Engine = Literal["torch", "openvino", "onnxruntime"]
Precision = Literal["float32", "bfloat16", "float16"]
Run = Callable[[Tensor], tuple[Tensor, ...]]

ENGINES: tuple[Engine, ...] = ("torch", "openvino", "onnxruntime")
TOLERANCE = 1e-4
"""Largest centred relative error against float32 PyTorch with which ``auto`` takes a backend."""
PARTS = 4
"""Into which OpenVINO's batches are cut: what a quarter of 16 images leaves between layers stays in the cache."""
log = logging.getLogger(__name__)
_OPENVINO_PRECISION = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


@dataclass(frozen=True)
class Network:
    """A network to run, in evaluation mode and with a tuple of arrays out.

    ``digest`` names all that it computes, ``probe`` is an input to try it on, and ``prepare`` may rewrite a copy of
    the module so that it computes the same faster.
    """

    module: nn.Module
    digest: str
    probe: Float[Tensor, "n ..."]
    prepare: Callable[[nn.Module], nn.Module] = lambda module: module


@dataclass(frozen=True)
class Backend:
    """An engine with the network loaded: float arrays in, float32 arrays out, on the device they came from."""

    name: str
    run: Run

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """The network's outputs for a batch."""
        return self.run(x)


class Trial(BaseModel):
    """What ``auto`` found about one backend on this machine."""

    error: float
    samples_per_second: float


class Choice(BaseModel):
    """What ``auto`` took, and why."""

    backend: Engine
    trials: Mapping[str, Trial]


def open_backend(name: str, network: Network, device: torch.device, precision: Precision = "float32") -> Backend:
    """Load a network into a backend; one that is not installed or does not fit is an error that says what does."""
    if precision not in get_args(Precision):
        raise InputError(f"there is no precision {precision!r}; there are {', '.join(get_args(Precision))}")
    if name == "auto":
        name = choose(network, device) if precision == "float32" and device.type == "cpu" else "torch"
    if name in ("openvino", "onnxruntime"):
        if device.type != "cpu":
            raise InputError(f"backend {name!r} runs on the CPU; on {device} take 'torch' or 'compile'")
        if not installed(name):
            raise InputError(f"backend {name!r} needs its extra: pip install 'evalsvc[{name}]'")
    if name == "openvino":
        return Backend(name, _openvino(network, precision))
    if name == "onnxruntime":
        if precision != "float32":
            raise InputError("backend 'onnxruntime' computes in float32; for reduced precision take 'torch'")
        return Backend(name, _onnxruntime(network))
    if name in ("torch", "compile"):
        return Backend(name, _torch(network, device, precision, compiled=name == "compile"))
    raise InputError(f"there is no backend {name!r}; there are auto, torch, compile, openvino and onnxruntime")


def installed(name: str) -> bool:
    """Whether this machine has the packages of a backend."""
    needed = {"openvino": ("openvino", "onnx"), "onnxruntime": ("onnxruntime", "onnx")}.get(name, ())
    return all(importlib.util.find_spec(package) is not None for package in needed)


# --- the choice ---


def choose(network: Network, device: torch.device) -> Engine:
    """The fastest backend that agrees with plain PyTorch, tried once on this machine and then remembered."""
    memory = _artifacts()
    key = f"backends/{digest_json([network.digest, _machine()])[:32]}.json"
    if memory.is_sound(key):
        return Choice.model_validate_json(memory.read_bytes(key)).backend
    trials, broken = {}, False
    truth = _plain(network)
    for name in filter(installed, ENGINES):
        try:
            trials[name] = _try(open_backend(name, network, device), network.probe, truth)
        except Exception as error:
            if name == "torch":
                raise
            log.warning("backend %s does not run here and is left out (%s: %s)", name, type(error).__name__, error)
            broken = True
    exact = {name: trial.samples_per_second for name, trial in trials.items() if trial.error < TOLERANCE}
    choice = Choice.model_validate({"backend": max(exact, key=exact.__getitem__, default="torch"), "trials": trials})
    if not broken:
        memory.write_bytes(key, choice.model_dump_json().encode())
    return choice.backend


def centred_error(found: Tensor, truth: Tensor) -> float:
    """``|found - truth| / |truth - its mean row|`` in Frobenius norms: the error beside what tells samples apart."""
    spread = (truth.double() - truth.double().mean(0)).norm()
    return float((found.double() - truth.double()).norm() / spread) if spread > 0 else float(not found.equal(truth))


def _try(backend: Backend, probe: Tensor, truth: tuple[Tensor, ...]) -> Trial:
    found = backend(probe)
    seconds = min(timeit.repeat(lambda: backend(probe), number=1, repeat=3))
    error = max(centred_error(a, b) for a, b in zip(found, truth, strict=True))
    return Trial(error=error, samples_per_second=len(probe) / seconds)


@torch.inference_mode()
def _plain(network: Network) -> tuple[Tensor, ...]:
    result: tuple[Tensor, ...] = network.module(network.probe)
    return result


def _machine() -> list[Any]:
    """Whatever may change which backend is fastest, or what it computes."""
    return [
        platform.processor(),  # often empty on Linux
        platform.machine(),
        torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        [[name, _version(name)] for name in filter(installed, ENGINES)],
    ]


def _version(package: str) -> str:
    """The package may come under another name, such as ``onnxruntime-gpu``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return str(importlib.import_module(package).__version__)


def _artifacts() -> Artifacts:
    return Artifacts(Settings().home / "artifacts")


# --- the engines ---


def _torch(network: Network, device: torch.device, precision: Precision, *, compiled: bool) -> Run:
    dtype = getattr(torch, precision)
    module = network.prepare(copy.deepcopy(network.module)).to(device, dtype)
    layout = torch.channels_last if network.probe.ndim == 4 else torch.contiguous_format
    module = module.to(memory_format=layout).eval()  # type: ignore[call-overload]
    forward: Callable[..., Any] = torch.compile(module) if compiled else module

    @torch.inference_mode()
    def run(x: Tensor) -> tuple[Tensor, ...]:
        x = x.to(device, dtype).contiguous(memory_format=layout)
        if compiled:  # for batches of any size; with sizes of images left open too, Inception does not compile
            torch._dynamo.maybe_mark_dynamic(x, 0)
        outputs = forward(x)
        return tuple(output.float() for output in outputs)

    return run


def _openvino(network: Network, precision: Precision) -> Run:
    import openvino

    core = openvino.Core()
    # Left to itself OpenVINO takes bfloat16 where the processor has it, which moves a FID by units.
    config = {
        "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISION[precision],
        "EXECUTION_MODE_HINT": "ACCURACY" if precision == "float32" else "PERFORMANCE",
        # Parts of a batch on cores of their own wait for one another once, not after every layer.
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": min(PARTS, torch.get_num_threads()),
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = core.compile_model(core.read_model(_onnx(network)), "CPU", config)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        parts = x.float().contiguous().chunk(PARTS)
        requests = [compiled.create_infer_request() for _ in parts]
        for request, part in zip(requests, parts, strict=True):
            request.start_async(part.numpy(), share_inputs=True)
        for request in requests:
            request.wait()
        found = [[torch.from_numpy(tensor.data) for tensor in request.output_tensors] for request in requests]
        return tuple(torch.cat(output) for output in zip(*found, strict=True))

    return run


def _onnxruntime(network: Network) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(_onnx(network), options, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(found) for found in session.run(None, {"x": x.float().contiguous().numpy()}))

    return run


def _onnx(network: Network) -> bytes:
    """The network as ONNX with a free batch size, exported once and kept."""
    memory = _artifacts()
    key = f"backends/{network.digest[:32]}.onnx"
    if not memory.is_sound(key):
        buffer = io.BytesIO()
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            outputs = [f"y{i}" for i in range(len(network.module(network.probe[:1])))]
            torch.onnx.export(
                network.prepare(copy.deepcopy(network.module)),
                (network.probe[:2],),
                buffer,  # type: ignore[arg-type]
                input_names=["x"],
                output_names=outputs,
                dynamic_axes={name: {0: "n"} for name in ["x", *outputs]},
                dynamo=False,
            )
        memory.write_bytes(key, buffer.getvalue())
    return memory.read_bytes(key)
