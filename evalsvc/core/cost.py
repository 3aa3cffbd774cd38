"""Cost of computations: device time, peak memory, and energy if the device measures it."""

from __future__ import annotations

import math
import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction

if TYPE_CHECKING:
    import torch

SPEED = Quantity(
    "samples_per_second",
    Direction.HIGHER,
    unit="1/s",
    low=0.0,
    title="Sampling speed",
    title_zh="采样速度",
)
POWERCAP = Path("/sys/class/powercap")
PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Cost:
    """Seconds on one device, peak memory in bytes, energy in joules; ``None`` if it could not be measured.

    ``energy`` is that of the whole device during the computation: a GPU, or the CPU sockets, which processes of others
    may share. It is unknown for a MIG instance, and where several processes were started on one device, of which each
    would count the energy of all.
    """

    seconds: float
    peak_memory: int | None = None
    energy: float | None = None


class Meter:
    """Measures from its construction on; one at a time, since the peak is per process."""

    def __init__(self, device: torch.device, *, shared: bool = False) -> None:
        self._device = device
        self._counter = None if shared else energy_counter(device)
        self._joules = self._counter.read() if self._counter else ()
        _forget_peak(device)
        self._started = time.perf_counter()

    def cost(self) -> Cost:
        """The cost so far."""
        seconds = time.perf_counter() - self._started
        energy = self._counter.since(self._joules) if self._counter else None
        return Cost(seconds, _peak(self._device), energy)


# --- memory ---


def _forget_peak(device: torch.device) -> None:
    if device.type == "cpu":
        if sys.platform == "linux":
            with suppress(OSError):  # gVisor, a sandbox for containers, has no such file
                (PROCESS / "clear_refs").write_text("5")
        return
    import torch

    if reset := getattr(torch.get_device_module(device), "reset_peak_memory_stats", None):
        reset(device)


def _peak(device: torch.device) -> int | None:
    """Bytes of tensors on a device; on the CPU, resident bytes of the process."""
    if device.type != "cpu":
        import torch

        peak = getattr(torch.get_device_module(device), "max_memory_allocated", None)
        return int(peak(device)) if peak else None
    if sys.platform == "linux" and (found := re.search(r"VmHWM:\s*(\d+)", (PROCESS / "status").read_text())):
        return int(found[1]) * 1024
    # On other systems the peak is that since the start of the process, which is an upper bound.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# --- energy ---


@dataclass(frozen=True)
class EnergyCounter:
    """Monotonic counters in joules, one per part, each of which wraps around at its ``wraps``."""

    source: Literal["nvml", "rapl"]
    read: Callable[[], Sequence[float]]
    wraps: Sequence[float]

    def since(self, before: Sequence[float]) -> float:
        """Joules since an earlier reading; two wraps between readings would go unnoticed."""
        return sum((now - then) % wrap for now, then, wrap in zip(self.read(), before, self.wraps, strict=True))


@cache
def energy_counter(device: torch.device) -> EnergyCounter | None:
    """NVML's counter of a GPU (extra ``energy``), or RAPL's of the CPU; ``None`` if neither can be read."""
    if device.type == "cuda":
        return _nvml(device)
    return _rapl(POWERCAP) if device.type == "cpu" else None


def _nvml(device: torch.device) -> EnergyCounter | None:
    try:
        import pynvml
    except ImportError:
        return None
    import torch

    def read() -> Sequence[float]:
        return (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,)

    def is_split() -> bool:
        try:
            return bool(pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE)
        except pynvml.NVMLError_NotSupported:
            return False

    try:
        pynvml.nvmlInit()
        # By UUID: torch numbers devices by CUDA_VISIBLE_DEVICES, NVML does not.
        handle: Any = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        if is_split():  # the counter is that of the whole card
            return None
        read()
    except pynvml.NVMLError:  # before Volta, a MIG instance, no driver
        return None
    return EnergyCounter("nvml", read, (math.inf,))


def _rapl(root: Path) -> EnergyCounter | None:
    """Counters of the CPU sockets. Most systems restrict them to root, since they leak facts about other processes."""
    try:
        zones = [zone for zone in root.glob("intel-rapl:*") if (zone / "name").read_text().startswith("package")]
        wraps = [_microjoules(zone / "max_energy_range_uj") for zone in zones]
        counter = EnergyCounter("rapl", lambda: [_microjoules(zone / "energy_uj") for zone in zones], wraps)
        return counter if counter.read() else None
    except OSError:
        return None


def _microjoules(file: Path) -> float:
    return int(file.read_text()) / 1e6
