"""Counter-based random numbers: row i of a batch depends only on its own seed.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), implemented with 64-bit integer
tensors, so that every device gives the same bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jaxtyping import Float, Int64

from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ITEMS = 0x6974656D
"""Separates the seeds of items from those of indices."""


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four 32-bit words (stored as int64) for a 128-bit counter under a 64-bit key, all broadcastable."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # An int64 product wraps, but its bits are those of the unsigned product, so both halves are exact.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _words(seeds: Int64[Tensor, " n"], count: int, stream: int) -> Int64[Tensor, "n count"]:
    blocks = torch.arange(-(-count // 4), device=seeds.device)
    zero = torch.zeros((), dtype=torch.int64, device=seeds.device)
    key = ((seeds & _MASK)[:, None], ((seeds >> 32) & _MASK)[:, None])
    words = philox((blocks & _MASK, blocks >> 32, zero + (stream & _MASK), zero + (stream >> 32)), key)
    return torch.stack(words, dim=-1).flatten(1)[:, :count]


def uniform(seeds: Int64[Tensor, " n"], *shape: int, stream: int = 0) -> Float[Tensor, "n ..."]:
    """Float32 uniforms in the open interval (0, 1), one row of ``shape`` per seed."""
    words = _words(seeds, math.prod(shape), stream)
    # 23 bits and half a step: the largest value is representable in float32 and stays below 1.
    return (((words >> 9).double() + 0.5) * 2.0**-23).float().view(len(seeds), *shape)


def normal(seeds: Int64[Tensor, " n"], *shape: int, stream: int = 0) -> Float[Tensor, "n ..."]:
    """Float32 standard normals (Box-Muller in float64), one row of ``shape`` per seed."""
    count = math.prod(shape)
    words = _words(seeds, 2 * -(-count // 2), stream).double()
    u, v = (words[:, 0::2] + 0.5) * 2.0**-32, words[:, 1::2] * 2.0**-32
    radius, angle = (-2.0 * u.log()).sqrt(), 2.0 * math.pi * v
    pairs = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(1)
    return pairs[:, :count].float().view(len(seeds), *shape)


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
