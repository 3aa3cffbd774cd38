"""Counter-based random numbers: row i of a batch depends only on its own seed.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), implemented with 64-bit integer
tensors, so that every device gives the same bits. Uniforms and normals are drawn on the CPU or on CUDA, there by one
kernel; for other kinds of device, which lack float64, they are drawn on the CPU.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from jaxtyping import Float, Int64

from evalsvc.core.batching import out_of_memory
from evalsvc.core.errors import first_line
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins import rng_kernel

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ITEMS = 0x6974656D
"""Separates the seeds of items from those of indices."""
_MOST = 2**18
"""Numbers that operators draw at once, which bounds their memory."""


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four 32-bit words (stored as int64) for a 128-bit counter under a 64-bit key, all broadcastable."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # An int64 product wraps, but its bits are those of the unsigned product, so both halves are exact. Bits above
        # the 32nd are masked only where a product would see them.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) ^ c1 ^ k0) & _MASK, p1, ((p0 >> 32) ^ c3 ^ k1) & _MASK, p0
        k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return c0, c1 & _MASK, c2, c3 & _MASK


def with_float64(device: torch.device) -> torch.device:
    """The device, or the CPU in place of one of a kind that lacks float64, as Apple's does."""
    return device if device.type in ("cpu", "cuda") else torch.device("cpu")


def uniform(seeds: Int64[Tensor, " n"], *shape: int, stream: int = 0) -> Float[Tensor, "n ..."]:
    """Float32 uniforms in the open interval (0, 1), one row of ``shape`` per seed."""
    return _drawn("uniform", seeds, range(stream, stream + 1), shape)[0]


def normal(seeds: Int64[Tensor, " n"], *shape: int, stream: int = 0) -> Float[Tensor, "n ..."]:
    """Float32 standard normals (Box-Muller in float64), one row of ``shape`` per seed."""
    return normals(seeds, *shape, streams=range(stream, stream + 1))[0]


def normals(seeds: Int64[Tensor, " n"], *shape: int, streams: range) -> Float[Tensor, "s n ..."]:
    """The normals of several streams."""
    return _drawn("normal", seeds, streams, shape)


def _drawn(
    law: rng_kernel.Law, seeds: Int64[Tensor, " n"], streams: range, shape: tuple[int, ...]
) -> Float[Tensor, "s n ..."]:
    if seeds.device != (device := with_float64(seeds.device)):
        return _drawn(law, seeds.to(device), streams, shape).to(seeds.device)
    count = math.prod(shape)
    even = count + count % 2
    if seeds.device.type == "cuda" and (kernel := fused(law, seeds.device)):
        parts = [kernel(seeds, _counted(streams, seeds.device), even)]
    else:
        size = max(1, _MOST // max(1, len(seeds) * count))
        groups = [streams[start : start + size] for start in range(0, len(streams), size)]
        parts = [_PLAIN[law](seeds, _counted(group, seeds.device), even) for group in groups]
    return torch.cat([part[..., :count] for part in parts]).view(len(streams), len(seeds), *shape)


@functools.cache
def fused(law: rng_kernel.Law, device: torch.device) -> Callable[[Tensor, Tensor, int], Tensor] | None:
    """The kernel on a device, if it gives there what the operators give, normals to one unit in the last place."""
    seeds = torch.arange(64, device=device) * 0x1020304050607
    streams = _counted(range(2**31, 2**33, 2**31), device)
    try:
        kernel = rng_kernel.kernel(law)
        right, given = _PLAIN[law](seeds, streams, 130), kernel(seeds, streams, 130)
        farthest = int((right.view(torch.int32).long() - given.view(torch.int32)).abs().max())
        reason = "it gives other numbers" if farthest > (law == "normal") else ""
    except Exception as error:  # of the compiler, the driver, or another version of torch
        if out_of_memory(error):
            raise
        reason = first_line(error)
    if reason:
        log.warning("random numbers on %s are drawn without the fused kernel, which is slower: %s", device, reason)
    return None if reason else kernel


def _counted(streams: range, device: torch.device) -> Int64[Tensor, " s"]:
    return torch.arange(streams.start, streams.stop, streams.step, device=device)


def _words(
    seeds: Int64[Tensor, " n"], streams: Int64[Tensor, " s"], count: int
) -> tuple[Int64[Tensor, "s n pairs"], Int64[Tensor, "s n pairs"]]:
    """The words at even and at odd places of ``count``, which is even."""
    blocks = torch.arange(-(-count // 4), device=seeds.device)
    streams = streams[:, None, None]
    key = ((seeds & _MASK)[:, None], (seeds >> 32)[:, None])
    first, second, third, fourth = philox((blocks, blocks >> 32, streams & _MASK, streams >> 32), key)
    even, odd = torch.stack((first, third), -1), torch.stack((second, fourth), -1)
    return even.flatten(-2)[..., : count // 2], odd.flatten(-2)[..., : count // 2]


def _uniforms(seeds: Int64[Tensor, " n"], streams: Int64[Tensor, " s"], count: int) -> Float[Tensor, "s n count"]:
    words = torch.stack(_words(seeds, streams, count), dim=-1).flatten(-2)
    # 23 bits and half a step: the largest value is representable in float32 and stays below 1.
    return (((words >> 9).double() + 0.5) * 2.0**-23).float()


def _normals(seeds: Int64[Tensor, " n"], streams: Int64[Tensor, " s"], count: int) -> Float[Tensor, "s n count"]:
    even, odd = _words(seeds, streams, count)
    u, v = (even.double() + 0.5) * 2.0**-32, odd.double() * 2.0**-32
    radius, angle = (-2.0 * u.log()).sqrt(), 2.0 * math.pi * v
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(-2).float()


_PLAIN = {"uniform": _uniforms, "normal": _normals}


def sample_seeds(seed: int, start: int, stop: int) -> Int64[Tensor, " n"]:
    """Seeds of samples ``start`` to ``stop`` in the run with this seed: non-negative 63-bit integers."""
    return seeds_at(seed, torch.arange(start, stop))


def seeds_at(seed: int, indices: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Seeds of the samples at these indices in the run with this seed."""
    low, high = hashed(seed, indices)
    return ((high << 32) | low) & 0x7FFFFFFFFFFFFFFF


def item_seeds(seed: int, hashes: Int64[Tensor, " n"], draws: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Seeds of draws of items, by a 63-bit hash of the item and the number of the draw (below 2^32)."""
    zero = torch.zeros((), dtype=torch.int64)
    key = (zero + (seed & _MASK), zero + ((seed >> 32) & _MASK))
    low, high, _, _ = philox((hashes & _MASK, hashes >> 32, draws & _MASK, zero + _ITEMS), key)
    return ((high << 32) | low) & 0x7FFFFFFFFFFFFFFF


def hashed(seed: int, indices: Int64[Tensor, " n"], domain: int = 0) -> tuple[Tensor, Tensor]:
    """The lower and upper 32 bits of a keyed 64-bit hash of each index; each 32-bit ``domain`` selects another hash."""
    zero = torch.zeros((), dtype=torch.int64)
    key = (zero + (seed & _MASK), zero + ((seed >> 32) & _MASK))
    low, high, _, _ = philox((indices & _MASK, indices >> 32, zero + domain, zero), key)
    return low, high
