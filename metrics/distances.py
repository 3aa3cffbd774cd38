"""Squared distances of all pairs, block by block: certain bounds from one matrix product, exact ones on demand.

The product of centered rows in a narrow type is fast and wrong in its last digits. Its error is bounded for sure by
``e (|x|^2 + |y|^2)``, so a block holds lower bounds, ``lower + slack_x + slack_y`` are upper bounds, and a
comparison between the two is decided from the raw features in float64.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Float, Float64, Int64

from evalsvc.metrics.arrays import blocks
from evalsvc.metrics.full_precision import full_precision
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.score import MetricError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

_GATHERED = 2**18
_CACHED_ROWS = 256
_MOST_WORKERS = 8
_LINE = 64


@dataclass(frozen=True)
class Points:
    """The rows of ``raw`` seen from ``center`` in units of ``1 / scale``; ``low`` and ``slack`` carry the error."""

    raw: Float[Tensor, "n d"]
    center: Float[Tensor, " d"]
    scale: float
    norms: Float64[Tensor, " n"]
    low: Float[Tensor, " n"]
    slack: Float64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.raw)

    def rows(self, at: slice, factor: float = 1.0, out: Float[Tensor, "m d"] | None = None) -> Float[Tensor, "m d"]:
        """Some rows, centered and scaled, times ``factor``, in the type that products are taken in."""
        wide = torch.promote_types(self.center.dtype, self.low.dtype)
        unit = self.scale * factor
        shift = self.center.to(wide) * -unit
        if wide == self.low.dtype == self.raw.dtype:
            return torch.add(shift, self.raw[at], alpha=unit, out=out)
        return torch.add(shift, self.raw[at], alpha=unit).to(self.low.dtype)

    def take(self, at: Int64[Tensor, " m"]) -> Points:
        """Some of the points, as a set of their own."""
        return replace(self, raw=self.raw[at], norms=self.norms[at], low=self.low[at], slack=self.slack[at])

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

    Products of their rows are taken in ``dtype`` (float32).
    """
    kind = torch.float64 if any(x.dtype == torch.float64 for x in sets) else torch.float32
    anchor = sets[0][0].to(kind)
    # Averaging differences from a point of the set keeps the center of constant features exact.
    total = torch.zeros_like(anchor, dtype=torch.float64)
    for x in sets:
        for block in blocks(x, _CACHED_ROWS):
            total += (block - anchor).sum(0)
    center = (anchor + total / sum(len(x) for x in sets)).to(kind)
    norms = [torch.cat([(block - center).square().sum(1) for block in blocks(x, _CACHED_ROWS)]) for x in sets]
    longest = max(float(norm.max()) for norm in norms)
    if not longest < 1e300:
        raise MetricError("the features are too large to square in float64; divide them by a common factor")
    limit = 100 if kind == torch.float32 else 500
    scale = 2.0 ** -max(-limit, min(limit, round(0.5 * math.log2(max(longest, 1e-300)))))
    return tuple(
        Points(x, center, scale, norm * scale**2, norm, norm).within(dtype or torch.float32)
        for x, norm in zip(sets, norms, strict=True)
    )


def exact(x: Points, i: Int64[Tensor, " p"], y: Points, j: Int64[Tensor, " p"]) -> Float64[Tensor, " p"]:
    """Squared distances of the pairs (x_i, y_j), in scaled units, from the raw features in float64."""
    step = max(1, _GATHERED // x.raw.shape[1])
    with _on_threads(1):
        found = [
            ((x.raw[a].double() - y.raw[b].double()) * x.scale).square().sum(1)
            for a, b in zip(torch.split(i, step), torch.split(j, step), strict=True)
        ]
    return torch.cat(found) if found else torch.empty(0, dtype=torch.float64, device=x.raw.device)


@dataclass(frozen=True)
class Block:
    """Lower bounds of the squared distances between x[rows] and y[columns]."""

    rows: slice
    columns: slice
    lower: Float[Tensor, "a b"]

    def below(self, mask: Tensor) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"], Float[Tensor, " p"]]:
        """Positions (in the whole sets) and lower bounds of the pairs where ``mask`` holds."""
        flat = _flatnonzero(mask)
        width = self.lower.shape[1]
        row = torch.div(flat, width, rounding_mode="floor")
        return row + self.rows.start, flat - row * width + self.columns.start, self.lower.flatten()[flat]


def _flatnonzero(mask: Tensor) -> Int64[Tensor, " p"]:
    if mask.device.type == "cpu":  # NumPy's is many times faster on a sparse mask
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().squeeze(1)


def sweep(x: Points, y: Points, *, symmetric: bool = False) -> Iterator[Block]:
    """All pairs of rows in blocks, always in the same order; where ``symmetric`` those on the diagonal, then above.

    A symmetric sweep is one over a set of which no row is its own partner: each is at infinity from itself. A block is
    the caller's until the next one is asked for. On a CPU each thread multiplies a block of its own, ahead of the
    caller: threads that share one product wait for each other at every small step, on a busy machine for long.
    """
    side, width = block_side(x.raw.device), x.raw.shape[1]
    row_slices, column_slices = _slices(len(x), side), _slices(len(y), side)
    pairs = [(at, other) for n, at in enumerate(row_slices) for other in column_slices[symmetric * (n + 1) :]]
    if symmetric:  # halves of a block on the diagonal make three products of four
        halves = [_slices(at.stop, math.ceil((at.stop - at.start) / 2), at.start) for at in row_slices]
        pairs = (
            [(half, half) for parts in halves for half in parts]
            + [(parts[0], other) for parts in halves for other in parts[1:]]
            + pairs
        )
    most = min(side, len(x)), min(side, len(y))
    threads = torch.get_num_threads()
    workers = max(1, min(threads, len(pairs), _MOST_WORKERS)) if x.raw.device.type == "cpu" else 1
    sizes = most[0] * width, most[1] * width, most[0] * most[1]
    spare = [tuple(x.low.new_empty(size) for size in sizes) for _ in range(workers + 1 if workers > 1 else 1)]

    def multiply(at: slice, other: slice, buffers: tuple[Tensor, ...]) -> Block:
        a, b = at.stop - at.start, other.stop - other.start
        shapes = (a, width), (b, width), (a, b)
        rows, columns, lower = (
            buffer[: math.prod(shape)].view(shape) for buffer, shape in zip(buffers, shapes, strict=True)
        )
        torch.mm(x.rows(at, -2.0, rows), y.rows(other, 1.0, columns).T, out=lower)
        lower += y.low[other]
        lower += x.low[at, None]
        if symmetric and at == other:
            lower.fill_diagonal_(torch.inf)
        return Block(at, other, lower)

    with _on_threads(threads // workers):
        if workers == 1:
            for pair in pairs:
                yield multiply(*pair, spare[0])
            return
        ahead: deque[tuple[Future[Block], tuple[Tensor, ...]]] = deque()
        # The number of threads is each thread's own affair, and products ask only their own.
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            for pair in pairs:
                buffers = spare.pop()
                ahead.append((pool.submit(multiply, *pair, buffers), buffers))
                if not spare:
                    future, buffers = ahead.popleft()
                    yield future.result()
                    spare.append(buffers)
            for future, _ in ahead:
                yield future.result()


def side_by_side(first: Callable[[], T], second: Callable[[], T]) -> tuple[T, T]:
    """The results of two sweeps of nearly one length, each on half of the threads where there are several.

    Each then does its single-threaded ends beside the other's products.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return first(), second()
    with (
        _on_threads(threads),  # the precision of products is one for all threads: neither may restore it too early
        ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(threads // 2,)) as pool,
    ):
        one, other = pool.submit(first), pool.submit(second)
        return one.result(), other.result()


def block_side(device: torch.device) -> int:
    """Rows and columns of a block: large enough for the product's full rate, small enough to stay near the caches."""
    return 8192 if device.type == "cuda" else 1280


def _slices(n: int, side: int, start: int = 0) -> list[slice]:
    """``range(start, n)`` in pieces of at most ``side``, nearly equal so that no thread waits for a larger one.

    All but the last are multiples of 64 long where they can: rows that begin within a cache line cost a fifth.
    """
    even = math.ceil((n - start) / math.ceil((n - start) / side))
    step = min(side, math.ceil(even / _LINE) * _LINE)
    return [slice(at, min(n, at + step)) for at in range(start, n, step)]


@contextmanager
def _on_threads(threads: int) -> Iterator[None]:
    """Small steps gain nothing from more threads, and the error bound is about full float32 products."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with full_precision():
            yield
    finally:
        torch.set_num_threads(before)
