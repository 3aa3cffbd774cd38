"""Does evalsvc compute on a device what it computes on the CPU, the same each time, whatever the switches?

    python -m benchmarks.gpu.check --device cuda

Random weights only, no network. A line is written when it ends, to stdout and to gpu-check.jsonl in ``--out``; the
exit status is 1 if something differs or raises. ``--device pretended`` takes the device of the tests, and ``--device
cpu`` tests the check.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu import evaluations, memory, metrics, plugins, precision
from benchmarks.gpu.command import described, opened, parsed
from benchmarks.gpu.lines import Lines

SECONDS = 270.0


@dataclass(frozen=True)
class Setting:
    """What the parts are given; ``quick`` is small, and within one process."""

    device: torch.device
    folder: Path
    quick: bool


PARTS: dict[str, Callable[[Lines, Setting], None]] = {
    "metrics": lambda lines, s: metrics.check(lines, s.device, *((120, 8, ()) if s.quick else (900, 32))),
    "switches": lambda lines, s: precision.check_switches(lines, s.device),
    "noise": lambda lines, s: precision.check_noise(lines, s.device, 64 if s.quick else 4096),
    "generators": lambda lines, s: plugins.check_generators(lines, s.device, 8 if s.quick else 250),
    "evaluation": lambda lines, s: evaluations.check(lines, s.device, s.folder),
    "extractors": lambda lines, s: plugins.check_extractors(lines, s.device, s.folder, quick=s.quick),
    "language": lambda lines, s: plugins.check_language(lines, s.device, 16 if s.quick else 64),
    "memory": lambda lines, s: memory.check(lines, s.device, s.folder),
    "processes": lambda lines, s: evaluations.check_processes(lines, s.device, s.folder),
}
"""In the order in which a budget is spent."""
QUICK = ("metrics", "switches", "noise", "generators")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; return its exit status."""
    given = parsed(__doc__, PARTS, SECONDS, arguments, quick=True)
    lines = Lines(given.out / "gpu-check.jsonl", given.budget)
    with opened(given.device) as (device, folder):
        print(described(device), flush=True)
        for name in given.only or (QUICK if given.quick else PARTS):
            lines.attempt(name, functools.partial(PARTS[name], lines, Setting(device, folder, given.quick)))
    for line in lines.failed:
        print(f"{line.verdict}: {line.part}: {line.what}: {line.detail}")
    counts = Counter(line.verdict for line in lines.written)
    print(f"{', '.join(f'{count} {verdict}' for verdict, count in counts.items())}, {lines.seconds:.0f} s")
    return 1 if lines.failed or not counts["ok"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
