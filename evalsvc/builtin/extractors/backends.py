"""Inference backends for networks, and the choice of the fastest one with equal results.

A float32 backend does not change a protocol: ``auto`` uses a backend only if it agrees with float32 PyTorch on this
machine. Reduced precision must be requested by name, and is part of the extractor's protocol.
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
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Float
from pydantic import BaseModel
from torch import Tensor, nn

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.metrics.full_precision import full_precision
from evalsvc.store.artifacts import Artifacts

if TYPE_CHECKING:
    import openvino

Engine = Literal["torch", "openvino", "onnxruntime"]
Precision = Literal["float32", "bfloat16", "float16"]
Run = Callable[[Tensor], tuple[Tensor, ...]]

ENGINES: tuple[Engine, ...] = ("torch", "openvino", "onnxruntime")
TOLERANCE = 1e-4
"""Maximum centered relative error against float32 PyTorch for backends of ``auto``."""
PARTS = 4
"""Size of the parts of OpenVINO's batches: the activations of four images fit into the cache."""
log = logging.getLogger(__name__)
_OPENVINO_PRECISION = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


@dataclass(frozen=True)
class Network:
    """A network in evaluation mode that returns a tuple of arrays.

    ``digest`` identifies its computation, ``probe`` is an input for trials, and ``prepare`` may rewrite a copy of the
    module into an equivalent faster one.
    """

    module: nn.Module
    digest: str
    probe: Float[Tensor, "n ..."]
    prepare: Callable[[nn.Module], nn.Module] = lambda module: module


@dataclass(frozen=True)
class Backend:
    """An engine with the network loaded: float arrays in, float32 arrays out, on the input's device."""

    name: str
    run: Run

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the network for a batch."""
        return self.run(x)


class Trial(BaseModel):
    """Result of the trial of one backend on this machine."""

    error: float
    samples_per_second: float


class Choice(BaseModel):
    """The backend selected by ``auto``, with its trials."""

    backend: Engine
    trials: Mapping[str, Trial]


def open_backend(name: str, network: Network, device: torch.device, precision: Precision = "float32") -> Backend:
    """Load a network into a backend; an unavailable or unsuitable backend raises, with the alternatives."""
    if precision not in get_args(Precision):
        raise InputError(f"there is no precision {precision!r}; available are {', '.join(get_args(Precision))}")
    if name == "auto":
        name = choose(network, device) if precision == "float32" and device.type == "cpu" else "torch"
    if name in ("openvino", "onnxruntime"):
        if device.type != "cpu":
            raise InputError(f"backend {name!r} requires the CPU: use 'torch' or 'compile' on {device}")
        if not installed(name):
            raise InputError(f"backend {name!r} needs its extra: pip install 'evalsvc[{name}]'")
    if name == "openvino":
        return Backend(name, _openvino(network, precision))
    if name == "onnxruntime":
        if precision != "float32":
            raise InputError("backend 'onnxruntime' supports float32 only: use 'torch' for reduced precision")
        return Backend(name, _onnxruntime(network))
    if name in ("torch", "compile"):
        return Backend(name, _torch(network, device, precision, compiled=name == "compile"))
    raise InputError(f"there is no backend {name!r}; available are auto, torch, compile, openvino and onnxruntime")


def installed(name: str) -> bool:
    """Whether the packages of a backend are installed."""
    needed = {"openvino": ("openvino", "onnx"), "onnxruntime": ("onnxruntime", "onnx")}.get(name, ())
    return all(importlib.util.find_spec(package) is not None for package in needed)


# --- the choice ---


def choose(network: Network, device: torch.device) -> Engine:
    """The fastest backend that agrees with PyTorch, determined once on this machine and cached."""
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
            log.warning("backend %s does not work here and is skipped (%s: %s)", name, type(error).__name__, error)
            broken = True
    exact = {name: trial.samples_per_second for name, trial in trials.items() if trial.error < TOLERANCE}
    choice = Choice.model_validate({"backend": max(exact, key=exact.__getitem__, default="torch"), "trials": trials})
    if not broken:
        memory.write_bytes(key, choice.model_dump_json().encode())
    return choice.backend


def centered_error(output: Tensor, truth: Tensor) -> float:
    """``|output - truth| / |truth - its mean row|`` in Frobenius norms: error relative to sample differences."""
    spread = (truth.double() - truth.double().mean(0)).norm()
    return float((output.double() - truth.double()).norm() / spread) if spread > 0 else float(not output.equal(truth))


@full_precision()
def _try(backend: Backend, probe: Tensor, truth: tuple[Tensor, ...]) -> Trial:
    outputs = backend(probe)
    seconds = min(timeit.repeat(lambda: backend(probe), number=1, repeat=3))
    error = max(centered_error(a, b) for a, b in zip(outputs, truth, strict=True))
    return Trial(error=error, samples_per_second=len(probe) / seconds)


@torch.inference_mode()
@full_precision()
def _plain(network: Network) -> tuple[Tensor, ...]:
    result: tuple[Tensor, ...] = network.module(network.probe)
    return result


def _machine() -> list[Any]:
    """Facts about this machine that may change the fastest backend or its results."""
    return [
        platform.processor(),  # often empty on Linux
        platform.machine(),
        torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        [[name, _version(name)] for name in filter(installed, ENGINES)],
    ]


def _version(package: str) -> str:
    """The version of a package, which may have another name, such as ``onnxruntime-gpu``."""
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
        if compiled:  # for batches of any size; Inception does not compile with dynamic image sizes
            torch._dynamo.maybe_mark_dynamic(x, 0)
        outputs = forward(x)
        return tuple(output.float() for output in outputs)

    return run


def _openvino(network: Network, precision: Precision) -> Run:
    core = _openvino_core()
    # By default OpenVINO uses bfloat16 on processors that support it, which changes a FID by units.
    config = {
        "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISION[precision],
        "EXECUTION_MODE_HINT": "ACCURACY" if precision == "float32" else "PERFORMANCE",
        # Parts of a batch on separate cores synchronize once, and not after every layer.
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
        outputs = [[torch.from_numpy(tensor.data) for tensor in request.output_tensors] for request in requests]
        return tuple(torch.cat(output) for output in zip(*outputs, strict=True))

    return run


@cache
def _openvino_core() -> openvino.Core:
    """One for the process: builds of OpenVINO crash where a process makes several (openvino issue 35338)."""
    import openvino

    return openvino.Core()


def _onnxruntime(network: Network) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(_onnx(network), options, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(array) for array in session.run(None, {"x": x.float().contiguous().numpy()}))

    return run


def _onnx(network: Network) -> bytes:
    """The network as ONNX with a dynamic batch size, exported once and cached."""
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
