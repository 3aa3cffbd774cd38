"""The choice of the fastest of several ways to compute a network with equal results, by trial on this machine."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import platform
import timeit
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from pydantic import BaseModel
from torch import Tensor

from evalsvc.core.batching import out_of_memory
from evalsvc.core.digests import digest_json
from evalsvc.core.settings import Settings
from evalsvc.metrics.full_precision import full_precision
from evalsvc.store.artifacts import Artifacts

Run: TypeAlias = Callable[[Tensor], tuple[Tensor, ...]]

CANDIDATES: Mapping[str, tuple[str, ...]] = {
    "cpu": ("torch", "openvino", "onnxruntime"),
    "cuda": ("torch", "contiguous", "compile", "split"),
    "mps": ("torch", "contiguous"),
}
"""By kind of device. ``torch`` keeps images channel by channel for each pixel, ``contiguous`` each channel whole."""
TOLERANCE = 1e-4
"""Maximum centered relative error of a candidate against float32 PyTorch on the CPU."""
GAIN = {"compile": 1.2, "split": 1.5}
"""Speed from which a candidate is chosen that starts slowly or rounds otherwise, relative to the best before it."""
TRIAL = 64
"""Samples of a trial on a device, which fewer would not fill."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """An engine with the network loaded: float arrays in, float32 arrays out, on the input's device."""

    name: str
    run: Run

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the network for a batch."""
        return self.run(x)


class Trial(BaseModel):
    """Result of the trial of one candidate on this machine."""

    error: float
    samples_per_second: float


class Choice(BaseModel):
    """The candidate that was selected, with all trials."""

    backend: str
    trials: Mapping[str, Trial]


def choose(
    identity: str,
    probe: Float[Tensor, "n ..."],
    device: torch.device,
    truth: Callable[[], tuple[Tensor, ...]],
    open_: Callable[[str], Backend],
) -> str:
    """The fastest candidate that agrees with ``truth`` on ``probe``, determined once on this machine and cached."""
    memory = artifacts()
    key = f"backends/{digest_json([identity, _machine(device)])[:32]}.json"
    # Trials of several processes would disturb each other, and choose differently.
    with nullcontext() if memory.is_sound(key) else memory.lock(f"locks/{key}"):
        if memory.is_sound(key):
            return Choice.model_validate_json(memory.read_bytes(key)).backend
        choice, is_whole = _tried(probe, device, truth, open_)
        if is_whole:
            memory.write_bytes(key, choice.model_dump_json().encode())
    return choice.backend


def _tried(
    probe: Float[Tensor, "n ..."],
    device: torch.device,
    truth: Callable[[], tuple[Tensor, ...]],
    open_: Callable[[str], Backend],
) -> tuple[Choice, bool]:
    """The choice by trial, and whether it may be kept: another time a candidate that failed may work.

    Not so ``compile``, which needs a C compiler and the headers of Python: it would take a minute to fail each time.
    """
    trials, is_whole = dict[str, Trial](), True
    times = 1 if device.type == "cpu" else max(1, TRIAL // len(probe))
    given, *expected = (torch.cat([each] * times) for each in (probe, *truth()))
    given = given.to(device)
    for name in _candidates(device):
        try:
            trials[name] = _try(open_(name), given, expected)
        except Exception as error:
            is_full = out_of_memory(error)
            if name == "torch" and not is_full:
                raise
            log.warning("backend %s does not work here and is skipped (%s: %s)", name, type(error).__name__, error)
            is_whole = is_whole and name == "compile" and not is_full
    return Choice(backend=_fastest(trials), trials=trials), is_whole


def installed(name: str) -> bool:
    """Whether the packages of a candidate are installed."""
    needed = {"openvino": ("openvino", "onnx"), "onnxruntime": ("onnxruntime", "onnx"), "compile": ("triton",)}
    return all(importlib.util.find_spec(package) is not None for package in needed.get(name, ()))


def centered_error(output: Tensor, truth: Tensor) -> float:
    """``|output - truth| / |truth - its mean row|`` in Frobenius norms: error relative to sample differences."""
    spread = (truth.double() - truth.double().mean(0)).norm()
    return float((output.double() - truth.double()).norm() / spread) if spread > 0 else float(not output.equal(truth))


def artifacts() -> Artifacts:
    """The store of this machine's choices and exported networks."""
    return Artifacts(Settings().home / "artifacts")


def _fastest(trials: Mapping[str, Trial]) -> str:
    speed = {name: trial.samples_per_second for name, trial in trials.items() if trial.error < TOLERANCE}
    best = max((name for name in speed if name not in GAIN), key=speed.__getitem__, default="torch")
    for name, gain in GAIN.items():
        if speed.get(name, 0.0) > gain * speed.get(best, 0.0):
            best = name
    return best


@full_precision()
def _try(backend: Backend, probe: Tensor, truth: Sequence[Tensor]) -> Trial:
    def outputs() -> list[Tensor]:
        return [output.cpu() for output in backend(probe)]  # which waits for the device

    error = max(centered_error(a, b) for a, b in zip(outputs(), truth, strict=True))
    seconds = min(timeit.repeat(outputs, number=1, repeat=3))
    return Trial(error=error, samples_per_second=len(probe) / seconds)


def _machine(device: torch.device) -> list[Any]:
    """Facts about this machine that may change the fastest candidate or its results."""
    if device.type != "cpu":
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        cudnn: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        return [device.type, name, torch.__version__, torch.version.cuda, cudnn, _candidates(device)]
    return [
        platform.processor(),  # often empty on Linux
        platform.machine(),
        torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        [[name, _version(name)] for name in _candidates(device)],
    ]


def _candidates(device: torch.device) -> list[str]:
    return [*filter(installed, CANDIDATES.get(device.type, ("torch",)))]


def _version(package: str) -> str:
    """The version of a package, which may have another name, such as ``onnxruntime-gpu``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return str(importlib.import_module(package).__version__)
