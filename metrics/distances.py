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
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from evalsvc.metrics.full_precision import full_precision
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.points import Points

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

_MOST_PAIRS = 2**21
_MOST_WORKERS = 8
_LINE = 64


def exact(x: Points, i: Int64[Tensor, " p"], y: Points, j: Int64[Tensor, " p"]) -> Float64[Tensor, " p"]:
    """Squared distances of the pairs (x_i, y_j), in scaled units, from the raw features in float64."""
    step = max(1, (2**18 if x.device.type == "cpu" else 2**23) // x.raw.shape[1])
    i, j = i.to(x.raw.device), j.to(y.raw.device)
    with _on_threads(1):
        found = [
            _row_sums(((x.staged(a, torch.float64) - y.staged(b, torch.float64)) * x.scale).square())
            for a, b in zip(torch.split(i, step), torch.split(j, step), strict=True)
        ]
    return torch.cat(found)


def _row_sums(x: Float64[Tensor, "p d"]) -> Float64[Tensor, " p"]:
    """Sums that do not depend on how many rows there are: one pair has one distance, wherever it is measured.

    A device's own sums are taken in an order that fits the shape, so that halves are added here.
    """
    if x.device.type == "cpu":
        return x.sum(1)
    while (width := x.shape[1]) > 1:
        half = (width + 1) // 2
        x = torch.cat([x[:, : width - half] + x[:, half:], x[:, width - half : half]], dim=1)
    return x.squeeze(1)


@dataclass(frozen=True)
class Block:
    """Lower bounds of the squared distances between x[rows] and y[columns]."""

    rows: slice
    columns: slice
    lower: Float[Tensor, "a b"]

    def below(
        self, mask: Bool[Tensor, "a b"]
    ) -> Iterator[tuple[Int64[Tensor, " p"], Int64[Tensor, " p"], Float[Tensor, " p"]]]:
        """Positions (in the whole sets) and lower bounds of the pairs where ``mask`` holds, some millions at a time."""
        width, lower = self.lower.shape[1], self.lower.flatten()
        for flat in _pieces(mask):
            row = torch.div(flat, width, rounding_mode="floor")
            yield row + self.rows.start, flat - row * width + self.columns.start, lower[flat]


def flatnonzero(mask: Bool[Tensor, " *_"]) -> Int64[Tensor, " p"]:
    """Where a mask holds."""
    if mask.device.type == "cpu":  # NumPy's is many times faster on a sparse mask
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().squeeze(1)


def _pieces(mask: Bool[Tensor, "a b"]) -> Iterator[Int64[Tensor, " p"]]:
    """Where a mask holds, in pieces of whole rows that bound memory; a device is waited for once."""
    if mask.device.type == "cpu":
        yield flatnonzero(mask)
        return
    ends = np.cumsum(mask.sum(1).cpu().numpy())
    start = before = 0
    while before < ends[-1]:
        stop = max(start + 1, int(np.searchsorted(ends, before + _MOST_PAIRS, side="right")))
        piece = mask[start:stop].flatten()
        yield torch.nonzero_static(piece, size=int(ends[stop - 1] - before)).squeeze(1).add_(start * mask.shape[1])
        start, before = stop, ends[stop - 1]


def sweep(x: Points, y: Points, *, symmetric: bool = False) -> Iterator[Block]:
    """All pairs of rows in blocks, always in the same order; where ``symmetric`` those on the diagonal, then above.

    A symmetric sweep is one over a set of which no row is its own partner: each is at infinity from itself. A block is
    the caller's until the next one is asked for. On a CPU each thread multiplies a block of its own, ahead of the
    caller: threads that share one product wait for each other at every small step, on a busy machine for long.
    """
    side = block_side(x.device)
    pairs = _block_pairs(len(x), len(y), side, symmetric)
    threads = torch.get_num_threads()
    workers = max(1, min(threads, len(pairs), _MOST_WORKERS)) if x.device.type == "cpu" else 1
    products = [_Product(x, y, side, symmetric) for _ in range(workers + 1 if workers > 1 else 1)]
    with _on_threads(threads // workers):
        if workers == 1:
            yield from _in_turn(pairs, products[0])
            return
        ahead: deque[tuple[Future[Block], _Product]] = deque()
        # The number of threads is each thread's own affair, and products ask only their own.
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            for pair in pairs:
                product = products.pop()
                ahead.append((pool.submit(product.now, pair), product))
                if not products:
                    future, product = ahead.popleft()
                    yield future.result()
                    products.append(product)
            for future, _ in ahead:
                yield future.result()


def _block_pairs(n: int, m: int, side: int, symmetric: bool) -> list[tuple[slice, slice]]:
    """Rows and columns of all blocks, in order."""
    rows, columns = _slices(n, side), _slices(m, side)
    pairs = [(at, other) for n, at in enumerate(rows) for other in columns[symmetric * (n + 1) :]]
    if not symmetric:
        return pairs
    # Halves of a block on the diagonal make three products of four.
    halves = [_slices(at.stop, math.ceil((at.stop - at.start) / 2), at.start) for at in rows]
    return (
        [(half, half) for parts in halves for half in parts]
        + [(parts[0], other) for parts in halves for other in parts[1:]]
        + pairs
    )


def _in_turn(pairs: list[tuple[slice, slice]], product: _Product) -> Iterator[Block]:
    """One block after another; what the next one needs from the host is on its way while one is computed."""
    ahead = product.staged(pairs[0])
    for pair, following in zip(pairs, [*pairs[1:], None], strict=True):
        block = product.block(pair, ahead)
        if following:
            ahead = product.staged(following)
        yield block


class _Product:
    """Buffers for one block of products; rows stay in theirs while blocks share them."""

    def __init__(self, x: Points, y: Points, side: int, symmetric: bool) -> None:
        self.x, self.y, self.symmetric = x, y, symmetric
        self.at: slice | None = None
        a, b, width = min(side, len(x)), min(side, len(y)), x.raw.shape[1]
        self.buffers = tuple(x.low.new_empty(size) for size in (a * width, b * width, a * b))

    def staged(self, pair: tuple[slice, slice]) -> tuple[Tensor | None, Tensor]:
        """The raw rows that a block needs beside those of the last one."""
        at, other = pair
        return None if at == self.at else self.x.staged(at), self.y.staged(other)

    def now(self, pair: tuple[slice, slice]) -> Block:
        """The block of a pair, staged here."""
        return self.block(pair, self.staged(pair))

    def block(self, pair: tuple[slice, slice], raw: tuple[Tensor | None, Tensor]) -> Block:
        """The block of staged rows; it is overwritten by the next one."""
        at, other = pair
        a, b, width = at.stop - at.start, other.stop - other.start, self.x.raw.shape[1]
        shapes = (a, width), (b, width), (a, b)
        rows, columns, lower = (
            buffer[: math.prod(shape)].view(shape) for buffer, shape in zip(self.buffers, shapes, strict=True)
        )
        if raw[0] is not None:
            self.at, self.rows = at, self.x.centered(raw[0], -2.0, rows)
        torch.mm(self.rows, self.y.centered(raw[1], 1.0, columns).T, out=lower)
        lower += self.y.low[other]
        lower += self.x.low[at, None]
        if self.symmetric and at == other:
            lower.fill_diagonal_(torch.inf)
        return Block(at, other, lower)


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
