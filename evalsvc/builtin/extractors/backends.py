"""Inference backends for networks.

A float32 backend does not change a protocol: ``auto`` uses a backend only if it agrees with float32 PyTorch on this
machine. Reduced precision must be requested by name, and is part of the extractor's protocol.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from evalsvc.builtin.extractors.backend_choice import Backend, Run, artifacts, choose, installed
from evalsvc.builtin.extractors.split_convolutions import split
from evalsvc.core.errors import InputError
from evalsvc.metrics.full_precision import full_precision, tensor_float32

if TYPE_CHECKING:
    import openvino

Precision = Literal["float32", "tf32", "bfloat16", "float16"]

NAMES = ("torch", "compile", "split", "openvino", "onnxruntime")
PARTS = 4
"""Size of the parts of OpenVINO's batches: the activations of four images fit into the cache."""
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


def open_backend(name: str, network: Network, device: torch.device, precision: Precision = "float32") -> Backend:
    """Load a network into a backend; an unavailable or unsuitable backend raises, with the alternatives."""
    if precision not in get_args(Precision):
        raise InputError(f"there is no precision {precision!r}; available are {', '.join(get_args(Precision))}")
    if precision == "tf32" and device.type != "cuda":
        raise InputError(f"precision 'tf32' is computed by CUDA devices only (got {device}): use float32 or bfloat16")
    if name == "auto":
        name = _chosen(network, device) if precision == "float32" else "torch"
    elif name not in NAMES:
        raise InputError(f"there is no backend {name!r}; available are auto, {', '.join(NAMES)}")
    opened = _open(name, network, device, precision)
    return replace(opened, name="torch") if name == "contiguous" else opened  # one engine, which stored features name


def _chosen(network: Network, device: torch.device) -> str:
    @torch.inference_mode()
    @full_precision()
    def truth() -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = network.module(network.probe)
        return result

    return choose(network.digest, network.probe, device, truth, lambda name: _open(name, network, device, "float32"))


def _open(name: str, network: Network, device: torch.device, precision: Precision) -> Backend:
    if name == "split" and (device.type != "cuda" or precision != "float32"):
        raise InputError(
            f"backend 'split' computes float32 on CUDA devices only (got {precision} on {device}): use 'torch'"
        )
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
    return Backend(name, _torch(name, network, device, precision))


# --- the engines ---


def _torch(name: str, network: Network, device: torch.device, precision: Precision) -> Run:
    dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
    module = network.prepare(copy.deepcopy(network.module)).to(device, dtype)
    module = split(module) if name == "split" else module
    arithmetic: Callable[[], AbstractContextManager[None]] = nullcontext
    if precision == "tf32" or name == "split":
        arithmetic = partial(tensor_float32, products=name != "split")
    images = network.probe.ndim == 4 and name != "contiguous"
    layout = torch.channels_last if images else torch.contiguous_format
    module = module.to(memory_format=layout).eval()  # type: ignore[call-overload]
    forward: Callable[..., Any] = torch.compile(module) if name == "compile" else module

    @torch.inference_mode()
    def run(x: Tensor) -> tuple[Tensor, ...]:
        x = x.to(device, dtype).contiguous(memory_format=layout)
        if name == "compile":  # for batches of any size; Inception does not compile with dynamic image sizes
            torch._dynamo.maybe_mark_dynamic(x, 0)
        with arithmetic():
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
    """One for the process, which keeps the threads of its models.

    A model that outlives its core joins its threads when it is freed. Where a forked process frees it as garbage (a
    worker of a ``DataLoader``, after an evaluation in the same process), those threads do not exist, and it crashes.
    """
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
    memory = artifacts()
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
