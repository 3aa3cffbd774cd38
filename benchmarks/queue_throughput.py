"""``python -m benchmarks.queue_throughput``: what the queue costs, on simulated device time (a generator that sleeps).

How much of the workers' time is device time, what lies between two shards of a slot, what idle workers take of a core.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from tests.e2e.fleet import Call, Fleet
from tests.postgres import postgres_server


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


def run(fleet: Fleet, slots: int, evaluations: int, shards: int, seconds: float) -> float:
    """Shards a second of device time that so many slots computed, from the first submission to the last score."""
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
        fleet.wait(fleet.ended, 1200, every=1)
        took = time.monotonic() - begun
        calls = fleet.calls()
        assert len(calls) == evaluations * shards, "every shard once"
        last_full = sorted(call.at for call in calls)[-slots]
        between = gaps([call for call in calls if call.at <= last_full], seconds)
        print(f"{slots} slots, {evaluations} evaluations of {shards} shards of {seconds:g} s: {took:.1f} s,")
        print(f"{seconds * len(calls) / slots / took:.1%} of the slots' time is device time, start and end included,")
        print(f"so a shard costs {slots * took / len(calls) - seconds:.2f} s beside its device time, metrics included")
        print(f"between two shards: median {statistics.median(between):.2f} s, mean {statistics.mean(between):.2f} s")
        for role in ("slot", "coordinator"):
            shares = [(cpu_seconds(pid) - before) / took for pid, (of, before) in spent.items() if of == role]
            print(f"busy {role}: {statistics.mean(shares):.1%} of a core", flush=True)
        return len(calls) / took
    finally:
        fleet.stop()


@contextmanager
def fleet(database: str, shards: int) -> Iterator[Fleet]:
    """In a folder and a database of its own. One batch a shard, so that a call of the generator is a shard."""
    size = {"batch": 100, "samples": 100 * shards, "shard": 100}
    with tempfile.TemporaryDirectory() as name:
        if database == "sqlite":
            yield Fleet(Path(name), f"sqlite:///{name}/rows.db", **size, heartbeat=5, dead_after=30)
        else:
            with postgres_server() as server:
                yield Fleet(Path(name), server.get_uri(), **size, heartbeat=5, dead_after=30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="postgresql")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--alone", type=int, default=12, help="evaluations that one slot alone computes first")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    rates = []
    for slots, evaluations in ((1, given.alone), (given.slots, given.evaluations)):
        with fleet(given.database, given.shards) as each:
            rates.append(run(each, slots, evaluations, given.shards, given.seconds))
    alone, together = rates
    print(f"{given.slots} slots give {together / given.slots / alone:.1%} of the sum of {given.slots} single ones")


if __name__ == "__main__":
    main()
