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
    """Median seconds of a contender, what it returned, and its seconds over those of the first, round by round."""

    seconds: float
    value: float
    times_first: float


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
    rates: dict[torch.dtype, list[float]] = {torch.float32: [], torch.float64: []}
    for round_ in range(rounds):
        for dtype, found in rates.items():
            found.append(gemm_rate(dtype))
        for name in list(contenders)[:: -1 if round_ % 2 else 1]:
            gc.collect()
            start = time.perf_counter()
            values[name] = contenders[name]()
            seconds[name].append(time.perf_counter() - start)
    first = seconds[next(iter(contenders))]
    laps = {
        name: Lap(
            statistics.median(own), values[name], statistics.median(b / a for a, b in zip(first, own, strict=True))
        )
        for name, own in seconds.items()
    }
    return Race(laps, *(statistics.median(found) for found in rates.values()))


def gemm_rate(dtype: torch.dtype, n: int = 1536) -> float:
    """GF/s of a square matrix product, the best of three."""
    a, b = (torch.rand(n, n, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds) / 1e9
