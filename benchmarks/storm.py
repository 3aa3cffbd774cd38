"""``OMP_NUM_THREADS=1 python -m benchmarks.storm``: kill -9 of slots, coordinators and machines at random moments.

There is always work while it goes on. On SQLite three slots share one machine, whose loss leaves nobody to take over
until it has started again; on Postgres each of three machines has one.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from evalsvc.store.tables import Status, Worker
from tests.e2e.fleet import Fleet, kill, scores
from tests.postgres import postgres_server

DEAD_AFTER = 4.0
"""Seconds without a heartbeat; the work of the dead is due with others within twice as long."""

AT_ONCE = 6
"""Evaluations in progress while the storm lasts."""

ROLES = {"slot": 6, "coordinator": 3, "machine": 2}
"""What is killed, and how often in proportion."""


def storm(fleet: Fleet, machines: int, kills: int, pause: float, seed: int) -> None:
    chance = random.Random(seed)
    ids: dict[int, int] = {}
    recoveries: dict[str, list[float]] = {role: [] for role in ROLES}

    def keep_busy() -> None:
        while sum(not each.ended for each in fleet.progress()) < AT_ONCE:
            ids[len(ids)] = fleet.submit(len(ids), seconds=0.5)

    try:
        keep_busy()
        for _ in range(machines):
            fleet.start(slots=3 // machines)
        fleet.wait(lambda: len(fleet.workers()) == 3 + machines and fleet.calls())
        for number in range(1, kills + 1):
            keep_busy()
            time.sleep(chance.uniform(0.2, 1) * pause)
            role = chance.choices(list(ROLES), list(ROLES.values()))[0]
            held, took = strike(fleet, role, chance)
            print(f"kill {number}: {role} with {held} jobs, taken over in {took:.1f} s", flush=True)
            if held:
                recoveries[role].append(took)
        fleet.wait(fleet.ended, 300)
        assert not (failed := [each for each in fleet.progress() if each.status != Status.SUCCEEDED]), failed
        assert not (again := fleet.computed_after_finished()), again
        assert len(fleet.shards()) == 10 * len(ids), "every shard once"
        undisturbed = fleet.undisturbed(ids)
        for number, evaluation in ids.items():
            assert scores(fleet.database, evaluation) == undisturbed[number], f"scores of {number} differ"
        batches = 20 * len(ids)
        print(f"{kills} kills, {len(ids)} evaluations of 10 shards bit-equal, no finished shard computed again,")
        print(f"{len(fleet.calls()) - batches} of {batches} batches twice, in shards that were not finished")
        for role, times in recoveries.items():
            if times:
                median = statistics.median(times)
                print(f"{role}: {len(times)} that held work, taken over in {median:.1f} s, at most {max(times):.1f} s")
        assert max(map(max, filter(None, recoveries.values()))) <= 2 * DEAD_AFTER
    finally:
        fleet.stop()


def strike(fleet: Fleet, role: str, chance: random.Random) -> tuple[int, float]:
    """Kill one at random; how many jobs it held, and after how many seconds it held none."""
    if role == "machine":
        victims = lose_machine(fleet, chance.randrange(len(fleet.supervisors)))
    else:
        fleet.wait(lambda: fleet.workers(role))
        rows = fleet.workers(role)
        row = chance.choice([row for row in rows if fleet.orphans({row.id})] or rows)
        victims = {row.id}
        kill(row.pid)
    held, since = fleet.orphans(victims), time.monotonic()
    if role == "machine" and len(fleet.supervisors) == 1:
        fleet.wait(lambda: {row.id for row in fleet.workers("coordinator")} - victims)
        since = time.monotonic()
    fleet.wait(lambda: not fleet.orphans(victims))
    return held, time.monotonic() - since


def lose_machine(fleet: Fleet, number: int) -> set[str]:
    """Kill a supervisor and all its processes, and start it again; what their names were."""
    supervisor = fleet.supervisors.pop(number)

    def its_own() -> list[Worker]:
        return [row for row in fleet.workers() if parent_of(row.pid) == supervisor.pid]

    fleet.wait(its_own)  # it may have started just now
    rows = its_own()
    for pid in (supervisor.pid, *(row.pid for row in rows)):
        kill(pid)
    supervisor.wait()
    fleet.start(slots=3 // (len(fleet.supervisors) + 1))
    return {row.id for row in rows}


def parent_of(pid: int) -> int:
    with suppress(FileNotFoundError):  # it has just ended
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pause", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1, as workers have it here: other threads add in another order")
    rest = (given.kills, given.pause, given.seed)
    size = {"batch": 20, "samples": 400, "shard": 40}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.database == "sqlite":
            url = f"sqlite:///{folder}/rows.db"
            storm(Fleet(folder, url, **size, heartbeat=1, dead_after=DEAD_AFTER), 1, *rest)
            return
        with postgres_server() as server:
            storm(Fleet(folder, server.get_uri(), **size, heartbeat=1, dead_after=DEAD_AFTER), 3, *rest)


if __name__ == "__main__":
    main()
