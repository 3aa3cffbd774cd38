"""Does evalsvc compute on a device what it computes on the CPU, the same each time, whatever the switches?

    python -m benchmarks.gpu.check --device cuda

Random weights only, no network. A line is written when it ends, to stdout and to gpu-check.jsonl in ``--out``; the
exit status is 1 if something differs or raises. ``--device pretended`` takes the device of the tests, and ``--device
cpu`` tests the check.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu import evaluations, memory, metrics, plugins, precision
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu, or pretended")
    parser.add_argument("--quick", action="store_true", help="small arrays, and what ends within seconds")
    parser.add_argument("--only", default="", help=f"parts, of {', '.join(PARTS)}")
    parser.add_argument("--budget", type=float, default=SECONDS, help="seconds, after which the rest is skipped")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "build/gpu")))
    given = parser.parse_args(arguments)
    chosen = given.only.split(",") if given.only else QUICK if given.quick else tuple(PARTS)
    if unknown := sorted(set(chosen) - set(PARTS)):
        parser.error(f"there is no part {unknown[0]!r}: use {', '.join(PARTS)}")
    lines = Lines(given.out / "gpu-check.jsonl", given.budget)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        stack.callback(logging.disable, logging.NOTSET)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        device = _opened(given.device, stack)
        print(described(device), flush=True)
        for name in chosen:
            PARTS[name](lines, Setting(device, folder, given.quick))
    counts = [sum(line.verdict == verdict for line in lines.written) for verdict in ("ok", "skipped")]
    for line in lines.failed:
        print(f"{line.verdict}: {line.part}: {line.what}: {line.detail}")
    print(f"{counts[0]} ok, {counts[1]} skipped, {len(lines.failed)} failed, {lines.seconds:.0f} s")
    return 1 if lines.failed or not counts[0] else 0


def described(device: torch.device) -> str:
    """A device and what drives it, in words."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    cudnn = torch.backends.cudnn.version() if device.type == "cuda" else None
    return f"{device}: {name}, torch {torch.__version__}" + (f", cuDNN {cudnn}" if cudnn else "")


def _opened(name: str, stack: ExitStack) -> torch.device:
    if name != "pretended":
        return torch.device(name)
    from tests.pretended_device import PretendedDevice

    return stack.enter_context(PretendedDevice()).device


if __name__ == "__main__":
    raise SystemExit(main())
