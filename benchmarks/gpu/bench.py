"""How fast evalsvc is on a card, beside the card's own rates and code in the style of the peers.

    python -m benchmarks.gpu.bench --device cuda

The most important lines come first; after ``--budget`` seconds the rest is skipped. The table goes to RESULTS-GPU.md in
``--out``. On a processor sizes are small and the table has no times: it shows that the benchmark runs.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.gpu import bench_metrics, bench_networks
from benchmarks.gpu.command import described, opened, parsed
from benchmarks.gpu.lines import ROOT, Line, Lines
from benchmarks.gpu.timing import Bench, Row

SECONDS = 380.0
TABLE = "RESULTS-GPU.md"
ROWS, FEW = 50_000, 5_000
PARTS: dict[str, Callable[[Bench], None]] = {
    "rates": bench_metrics.rates,
    "metrics": lambda bench: bench_metrics.metrics(bench, *((ROWS, 2048) if bench.on_card else (600, 32))),
    "language": bench_networks.language,
    "inception": bench_networks.inception,
    "factorizations": bench_metrics.factorized,
    "whole job": bench_networks.whole_job,
    "few rows": lambda bench: bench_metrics.metrics(bench, *((FEW, 2048) if bench.on_card else (60, 32))),
}
"""In the order in which a budget is spent."""
NOT_YET = """**Nothing of evalsvc has run on a GPU yet.** The benchmark writes a table here when it runs on one.
Until then there are no times: the lines below show that the benchmark itself runs, on {device} and at small sizes.
"""
LEGEND = """Seconds are medians after one call to warm up. Shares are of the rates in the first lines.
Peaks are of memory beside the inputs. Peers are code in the style of theirs, run beside ours."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write its table; return the exit status."""
    given = parsed(__doc__, PARTS, SECONDS, arguments)
    lines = Lines(given.out / "gpu-bench.jsonl", given.budget)
    with opened(given.device) as (device, folder):
        bench = Bench(device, lines, folder)
        for name in given.only or PARTS:
            lines.attempt(name, functools.partial(PARTS[name], bench))
            # After each part, because a limit of time may end the process.
            (given.out / TABLE).write_text(report(bench, _lines(given.out / "gpu-check.jsonl")))
    return 1 if lines.failed else 0


def report(bench: Bench, checked: Sequence[Line]) -> str:
    """The table in Markdown, with the machine that it is of and the result of the check there."""
    text = ["# evalsvc on a GPU", "", "Written by `make bench-gpu`, after `make gpu-check`."]
    if bench.on_card:
        text += ["", *_machine(bench.device), "", *_table(bench.rows)]
        text += ["", LEGEND]
    else:
        text += ["", NOT_YET.format(device="the pretended device" if bench.device.type == "cuda" else "the CPU")]
        text += [f"- {line.part}: {line.what}: {line.verdict}" for line in bench.lines.written]
    rest = [line for line in [*checked, *bench.lines.written] if line.verdict != "ok"]
    counts = Counter(line.verdict for line in checked)
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "not run"
    text += ["", f"`make gpu-check` on the same device: {said}."]
    text += [f"- {line.part}: {line.what}: {line.verdict}: {line.detail}" for line in rest if bench.on_card]
    return "\n".join(text) + "\n"


def _table(rows: Sequence[Row]) -> list[str]:
    lines = ["| part | what | seconds | rate | share | peak | peer | times |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        peak = f"{row.peak / 2**30:.2f} GiB" if row.peak else ""
        times = f"{row.times:.2f}" if row.times else ""
        cells = (row.part, row.what, f"{row.seconds:.4g}", row.rate, row.share, peak, row.peer, times)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _machine(device: torch.device) -> list[str]:
    driver = _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or "unknown"
    commit = _said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD") or "unknown"
    today = datetime.now(UTC).date().isoformat()
    return [f"{described(device)}, driver {driver}, {os.cpu_count()} processors, {today}, commit {commit}."]


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


def _lines(file: Path) -> list[Line]:
    """The lines of a check that ran before."""
    return [Line(**json.loads(line)) for line in file.read_text().splitlines()] if file.is_file() else []


if __name__ == "__main__":
    raise SystemExit(main())
