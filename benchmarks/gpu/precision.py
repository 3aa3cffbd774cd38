"""float32 is float32 under every switch of torch, and random numbers have the CPU's bits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from benchmarks.gpu.command import is_card
from benchmarks.gpu.lines import DiffersError, Lines
from evalsvc.builtin.extractors.batches import Pieces
from evalsvc.metrics.functional import kernel_distance
from evalsvc.plugins import rng
from evalsvc.plugins.rng_kernel import Law

Switch = Callable[[], AbstractContextManager[None]]
FULL = 2e-6
"""Relative error of products of some thousand terms in float32; TF32, with 10 bits of mantissa, is at 3e-4."""


@contextmanager
def allowed() -> Iterator[None]:
    """By the switches that all versions of torch have."""
    found = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(found[0])
        torch.backends.cudnn.allow_tf32 = found[1]


@contextmanager
def allowed_anew() -> Iterator[None]:
    """By the switch of torch 2.9 and later."""
    found = torch.backends.fp32_precision
    torch.backends.fp32_precision = "tf32"
    try:
        yield
    finally:
        torch.backends.fp32_precision = found


def check_switches(lines: Lines, device: torch.device) -> None:
    """Write the lines of products, convolutions, and a metric under both interfaces; the new one last."""
    switches: dict[str, Switch] = {"allow_tf32": allowed, "fp32_precision": allowed_anew}
    for name, switch in switches.items():
        for what, work in (("product", _product), ("convolution", _convolution), ("kernel distance", _metric)):
            lines.check("switches", f"{what} under {name}", functools.partial(work, device, switch))


def check_noise(lines: Lines, device: torch.device, count: int) -> None:
    """Write the lines of words, uniforms and normals, and whether the kernel draws them."""
    seeds = rng.sample_seeds(7, 0, 500)
    lines.check("noise", "seeds", lambda: _bits(seeds, rng.seeds_at(7, torch.arange(500, device=device))))
    lines.check("noise", "uniforms", lambda: _bits(rng.uniform(seeds, count), rng.uniform(seeds.to(device), count)))
    lines.check("noise", "normals", lambda: _normals(seeds, device, count))
    if is_card(device):
        lines.check("noise", "one kernel draws", lambda: _fused(device))


def _product(device: torch.device, switch: Switch) -> str:
    a, b = _random(512, 2048), _random(2048, 512)
    right = b.to(device)
    (found,) = _within(switch, lambda: Pieces(512, "check").run(lambda rows: (rows @ right,), a.to(device)))
    return _full(found, a.double() @ b.double())


def _convolution(device: torch.device, switch: Switch) -> str:
    x, w = _random(4, 64, 32, 32), _random(64, 64, 3, 3)
    filters, convolve = w.to(device), functools.partial(torch.nn.functional.conv2d, padding=1)
    (found,) = _within(switch, lambda: Pieces(4, "check").run(lambda rows: (convolve(rows, filters),), x.to(device)))
    return _full(found, convolve(x.double(), w.double()))


def _metric(device: torch.device, switch: Switch) -> str:
    """All pairs, of which the polynomial kernel multiplies float32 features in float32."""
    x, y = _random(400, 512), _random(400, 512) + 0.1
    on_device = _within(switch, lambda: kernel_distance(x.to(device), y.to(device), subsets=None).value)
    exact = kernel_distance(x.double(), y.double(), subsets=None).value
    apart = abs(on_device - exact) / 8
    if apart > 1e-6:
        raise DiffersError(f"{apart:.1e} of the kernel's size from float64 (float32 is below 1e-6)")
    return f"{apart:.0e} of the kernel's size from float64"


def _within(switch: Switch, work: Callable[[], Any]) -> Any:
    with switch():
        return work()


def _full(found: torch.Tensor, exact: torch.Tensor) -> str:
    error = float((found.cpu().double() - exact).norm() / exact.norm())
    if error > FULL:
        raise DiffersError(f"relative error {error:.1e}, which is not float32's (below {FULL:.0e})")
    return f"relative error {error:.0e}"


def _bits(on_cpu: torch.Tensor, on_device: torch.Tensor) -> str:
    off = int((on_cpu != on_device.cpu()).sum())
    if off:
        raise DiffersError(f"{off:,} of {on_cpu.numel():,} differ")
    return f"all {on_cpu.numel():,} equal"


def _normals(seeds: torch.Tensor, device: torch.device, count: int) -> str:
    """Within one unit in the last place: log and cosine of a device may round float64 in another way."""
    mine, theirs = rng.normal(seeds, count), rng.normal(seeds.to(device), count).cpu()
    off, steps = int((mine != theirs).sum()), _steps(mine, theirs)
    said = f"{off:,} of {mine.numel():,} differ, by at most {steps} units in the last place"
    if steps > 1:
        raise DiffersError(said)
    return said


def _fused(device: torch.device) -> str:
    laws: tuple[Law, ...] = ("uniform", "normal")
    if missing := [law for law in laws if rng.fused(law, device) is None]:
        raise DiffersError(f"single operators draw {' and '.join(missing)} numbers: the log says why")
    return "uniform and normal numbers"


def _steps(a: torch.Tensor, b: torch.Tensor) -> int:
    """How many float32 numbers lie between the two that are furthest apart."""
    ordered = [
        torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits) for bits in (t.view(torch.int32).long() for t in (a, b))
    ]
    return int((ordered[0] - ordered[1]).abs().max())


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))
