"""Contenders run in turn, forwards and backwards, so that all of them meet the same moods of the machine."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

Contenders = dict[str, Callable[[], float]]


@dataclass(frozen=True)
class Lap:
    """Median seconds of a contender, on the wall and of processor, what it returned, and both over those of the first.

    On a busy machine the wall tells of the neighbours; processor seconds tell less of them.
    """

    seconds: float
    cpu: float
    value: float
    times_first: float
    cpu_times_first: float


@dataclass(frozen=True)
class Race:
    """Laps by contender, and the machine's matrix products in the same minutes, in GF/s."""

    laps: dict[str, Lap]
    sgemm: float
    dgemm: float


def race(contenders: Contenders, rounds: int = 5) -> Race:
    """Run every contender once to warm up, then once a round; medians over rounds."""
    values = {name: run() for name, run in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    rates: dict[torch.dtype, list[float]] = {torch.float32: [], torch.float64: []}
    for round_ in range(rounds):
        for dtype, found in rates.items():
            found.append(gemm_rate(dtype))
        for name in list(contenders)[:: -1 if round_ % 2 else 1]:
            gc.collect()
            start, processor = time.perf_counter(), time.process_time()
            values[name] = contenders[name]()
            cpu[name].append(time.process_time() - processor)
            seconds[name].append(time.perf_counter() - start)
    first = next(iter(contenders))
    laps = {
        name: Lap(
            statistics.median(seconds[name]),
            statistics.median(cpu[name]),
            values[name],
            _ratio(seconds[name], seconds[first]),
            _ratio(cpu[name], cpu[first]),
        )
        for name in contenders
    }
    return Race(laps, *(statistics.median(found) for found in rates.values()))


def _ratio(own: list[float], first: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(own, first, strict=True))


def gemm_rate(dtype: torch.dtype, n: int = 1536) -> float:
    """GF/s of a square matrix product, the best of three."""
    a, b = (torch.rand(n, n, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds) / 1e9
