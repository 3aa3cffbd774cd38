"""Rows of a benchmark: seconds of a call, the share of the card's own rate that it reaches, and its peak of memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.command import is_card
from benchmarks.gpu.lines import Lines

Work = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """A line of the table. ``share`` is that of a rate of the card, ``times`` how much longer the peer takes."""

    part: str
    what: str
    seconds: float
    rate: str = ""
    share: str = ""
    peak: int = 0
    peer: str = ""
    times: float = 0.0


@dataclass
class Bench:
    """Times work on a device, with the rates of the card that shares are of."""

    device: torch.device
    lines: Lines
    folder: Path
    rates: dict[str, float] = field(default_factory=dict)
    """Operations a second by precision, and bytes a second by path."""
    rows: list[Row] = field(default_factory=list)

    def run(
        self,
        part: str,
        what: str,
        work: Work,
        *,
        needs: float = 5.0,
        amount: float = 0.0,
        unit: str = "FLOP/s",
        of: str = "",
        keep: str = "",
        peer: tuple[str, Work] | None = None,
        repeats: int = 2,
    ) -> None:
        """Time ``work``, which does an ``amount`` of ``unit``; ``of`` names the rate that its share is of.

        ``keep`` names the rate that it is. The peer runs once, beside it.
        """

        def measured() -> str:
            seconds, peak = self.seconds(work, repeats)
            rate = amount / seconds
            if keep:
                self.rates[keep] = rate
            share = f"{rate / self.rates[of]:.0%} of {of}" if of in self.rates else ""
            row = Row(part, what, seconds, scaled(rate, unit) if amount else "", share, peak)
            self.rows.append(row)
            if peer is not None:
                name, other = peer
                theirs, _ = self.seconds(other, 1)
                self.rows[-1] = row = replace(row, peer=f"{name}: {theirs:.3g} s", times=theirs / seconds)
            said = [f"{seconds:.4g} s", row.rate, row.share, row.peer, f"{row.times:.2f} times" if row.times else ""]
            return ", ".join(filter(None, said))

        self.lines.check(part, what, measured, needs)

    def seconds(self, work: Work, repeats: int) -> tuple[float, int]:
        """Median seconds of a call after one to warm up, and the peak of memory beside what was there before."""
        work()
        self.wait()
        before = torch.cuda.memory_allocated(self.device) if self.on_card else 0
        if self.on_card:
            torch.cuda.reset_peak_memory_stats(self.device)
        found = []
        for _ in range(repeats):
            start = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - start)
        peak = torch.cuda.max_memory_allocated(self.device) - before if self.on_card else 0
        return statistics.median(found), peak

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.on_card:
            torch.cuda.synchronize(self.device)

    @property
    def on_card(self) -> bool:
        """Whether sizes are those of a card; on a processor they are small, and show that the benchmark runs."""
        return is_card(self.device)


def scaled(rate: float, unit: str) -> str:
    """A rate with its prefix.

    >>> scaled(5.2e13, "FLOP/s")
    '52 TFLOP/s'
    """
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= factor and unit != "images/s":
            return f"{rate / factor:.3g} {prefix}{unit}"
    return f"{rate:.4g} {unit}"
