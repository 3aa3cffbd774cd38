"""The rows of a set as products see them: centered, scaled, with a bound of the error of a product.

On a device everything but the raw features is always there; these may stay on the host (see
:mod:`evalsvc.metrics.devices`), and are staged a few rows at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jaxtyping import Float, Float64, Int64

from evalsvc.metrics.devices import device_of, placed, staged
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.score import MetricError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Points:
    """The rows of ``raw`` seen from ``center`` in units of ``1 / scale``; ``low`` and ``slack`` carry the error.

    ``raw`` may be on the host where everything else is on a device.
    """

    raw: Float[Tensor, "n d"]
    center: Float[Tensor, " d"]
    scale: float
    norms: Float64[Tensor, " n"]
    low: Float[Tensor, " n"]
    slack: Float64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def device(self) -> torch.device:
        """Where the points are computed."""
        return self.norms.device

    def staged(self, at: slice | Int64[Tensor, " m"], dtype: torch.dtype | None = None) -> Float[Tensor, "m d"]:
        """Some rows of ``raw`` on the device."""
        return staged(self.raw[at], self.device, dtype)

    def blocks(self) -> Iterator[Float64[Tensor, "_ d"]]:
        """The rows of ``raw``, in order, a few at a time on the device."""
        return _wide(self.raw, self.device)

    def centered(
        self, raw: Float[Tensor, "m d"], factor: float, out: Float[Tensor, "m d"] | None = None
    ) -> Float[Tensor, "m d"]:
        """Staged rows, centered and scaled, times ``factor``, in the type that products are taken in."""
        wide = torch.promote_types(self.center.dtype, self.low.dtype)
        unit = self.scale * factor
        shift = self.center.to(wide) * -unit
        if wide == self.low.dtype == raw.dtype:
            return torch.add(shift, raw, alpha=unit, out=out)
        return torch.add(shift, raw, alpha=unit).to(self.low.dtype)

    def take(self, at: Int64[Tensor, " m"]) -> Points:
        """Some of the points, as a set of their own."""
        at = at.to(self.raw.device)
        here = staged(at, self.device)
        return replace(self, raw=self.raw[at], norms=self.norms[here], low=self.low[here], slack=self.slack[here])

    def on_host(self) -> Points:
        """The same points, computed on the host."""
        raw, norms, low, slack = (x.cpu() for x in (self.raw, self.norms, self.low, self.slack))
        return replace(self, raw=raw, center=self.center.cpu(), norms=norms, low=low, slack=slack)

    def within(self, dtype: torch.dtype) -> Points:
        """The same points with products in ``dtype``, and the error bound that goes with it.

        A product of d terms errs by (d + 2) u |x| |y|, at most half that times the squared norms, and enters twice;
        rounding of inputs, norms and the two sums is below 22 u of them; underflow below 4 d + 64 tiny numbers.
        """
        d = self.raw.shape[1]
        relative, absolute = (d + 24) * torch.finfo(dtype).eps / 2, (4 * d + 64) * torch.finfo(dtype).tiny
        error = self.norms * relative + absolute * (self.norms > 0)
        return replace(self, low=(self.norms - error).to(dtype), slack=2 * error)


def common_frame(*sets: Float[Tensor, "_ d"], dtype: torch.dtype | None = None) -> tuple[Points, ...]:
    """The sets seen from their common center, scaled by a power of two so that the longest row has length near 1.

    Products of their rows are taken in ``dtype`` (float32). Sets on several devices meet on the accelerator.
    """
    sets, device = placed(*sets), device_of(*sets)
    kind = torch.float64 if any(x.dtype == torch.float64 for x in sets) else torch.float32
    anchor = staged(sets[0][0], device, kind)
    # Averaging differences from a point of the set keeps the center of constant features exact.
    total = torch.zeros_like(anchor, dtype=torch.float64)
    for x in sets:
        for block in _wide(x, device):
            total += (block - anchor).sum(0)
    center = (anchor + total / sum(len(x) for x in sets)).to(kind)
    norms = [torch.cat([(block - center).square().sum(1) for block in _wide(x, device)]) for x in sets]
    longest = float(torch.stack([norm.max() for norm in norms]).max())
    if not longest < 1e300:
        raise MetricError("the features are too large to square in float64; divide them by a common factor")
    limit = 100 if kind == torch.float32 else 500
    scale = 2.0 ** -max(-limit, min(limit, round(0.5 * math.log2(max(longest, 1e-300)))))
    return tuple(
        Points(x, center, scale, norm * scale**2, norm, norm).within(dtype or torch.float32)
        for x, norm in zip(sets, norms, strict=True)
    )


def _wide(x: Float[Tensor, "n d"], device: torch.device) -> Iterator[Float64[Tensor, "_ d"]]:
    for block in torch.split(x, cached_rows(device)):
        yield staged(block, device, torch.float64)


def cached_rows(device: torch.device) -> int:
    """Rows that stay in the cache of a CPU through several steps; on another device those that are worth a launch."""
    return 256 if device.type == "cpu" else 4096
