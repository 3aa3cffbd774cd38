"""``OMP_NUM_THREADS=1 python -m benchmarks.storm``: all that goes wrong, at random moments, under constant work.

kill -9 of slots, coordinators, machines, the server, and of commands at their n-th statement; flipped bits and
truncated files; a full disk; clocks that are set an hour off (``cc`` builds what does it); cut connections (Postgres).
On SQLite three slots share one machine, whose loss leaves nobody to take over until it has started again; on Postgres
each of three machines has one. Afterwards every score, also of a suite that reads every shard once more, is bit-equal
to that of an undisturbed run.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import statistics
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from sqlalchemy import func, select

from benchmarks.storm_hits import Hits
from evalsvc.core.files.atomic_files import TEMPORARY
from evalsvc.evaluation import lifecycle
from evalsvc.evaluation.planning import plan
from evalsvc.inputs.suites import Suite, load_suite
from evalsvc.store.tables import Evaluation, Gate, Shard, Status
from tests.e2e.fleet import Fleet, scores
from tests.postgres import postgres_server

DEAD_AFTER = 4.0
"""Seconds without a heartbeat; the work of the dead is due with others within twice as long."""

AT_ONCE = 6
"""Evaluations in progress while the storm lasts."""


def storm(fleet: Fleet, machines: int, hits: int, pause: float, seed: int) -> None:
    chance = random.Random(seed)
    blows = Hits(fleet, machines, chance, _free_port())
    told: Counter[str] = Counter()
    recoveries: dict[str, list[float]] = {}

    def keep_busy() -> None:
        while sum(not each.ended for each in fleet.progress()) < AT_ONCE:
            blows.submit()

    try:
        keep_busy()
        fleet.wait(lambda: len(fleet.workers()) == 3 + machines and fleet.calls())
        weights = {name: weight for name, (weight, _) in blows.blows.items()}
        begun = time.monotonic()
        for number in range(1, hits + 1):
            keep_busy()
            time.sleep(chance.uniform(0.2, 1) * pause)
            (name,) = chance.choices(list(weights), list(weights.values()))
            done = blows.blows[name][1]()
            told[name] += 1
            print(f"{time.monotonic() - begun:6.0f} s, hit {number}: {name}, {done}", flush=True)
            if "taken over in" in done and not done.startswith("held 0"):
                recoveries.setdefault(name, []).append(float(done.split()[-2]))
        fleet.wait(fleet.ended, 600)
        _check(fleet, blows)
        print(f"{hits} hits ({', '.join(f'{count} {name}' for name, count in told.most_common())})")
        for name, times in recoveries.items():
            median = statistics.median(times)
            print(f"{name}: {len(times)} that held work, taken over in {median:.1f} s, at most {max(times):.1f} s")
    finally:
        blows.server.kill()
        fleet.stop()


def _check(fleet: Fleet, blows: Hits) -> None:
    """All scores bit-equal, nothing twice, nothing half, nobody left."""
    every = load_suite(str(fleet.suite))
    again = {number: _submit(fleet, number, _with_another_metric(every)) for number in blows.ids}
    fleet.wait(fleet.ended, 600)
    assert not (failed := [each for each in fleet.progress() if each.status != Status.SUCCEEDED]), failed
    undisturbed = fleet.undisturbed(blows.ids, every, _with_another_metric(every))
    for number in blows.ids:
        for evaluation, expected in zip((blows.ids[number], again[number]), undisturbed[number], strict=True):
            assert scores(fleet.database, evaluation) == expected, f"scores of {number} differ"
    assert not (late := fleet.computed_after_finished()), late
    with fleet.database.read() as session:
        place = (Shard.evaluation_id, Shard.kind, Shard.start)
        assert not session.execute(select(*place).group_by(*place).having(func.count() > 1)).all(), "a shard twice"
        current = select(Evaluation.fingerprint).where(Evaluation.status == Status.SUCCEEDED)
        assert not session.execute(current.group_by(Evaluation.fingerprint).having(func.count() > 1)).all(), (
            "an evaluation twice"
        )
        passed = set(session.scalars(select(Gate.step).where(Gate.status == "PASS")))
        assert passed == set(blows.gated), "a gate that was killed and run again passes"
    for process in (*fleet.supervisors, blows.server):
        process.send_signal(signal.SIGTERM)
    for process in (*fleet.supervisors, blows.server):
        process.wait(60)
    assert not (left := _left(fleet.folder)), left
    blows._run(["cache", "sweep", "--days", "0"])
    assert not list(fleet.store.rglob(f"{TEMPORARY}*")), "half-written files that a sweep does not find"
    print(f"{len(blows.ids)} evaluations under two suites bit-equal; {len(blows.damaged)} damaged files")


def _with_another_metric(suite: Suite) -> Suite:
    """The same samples under another name, so that every shard is read once more."""
    body = suite.model_dump(mode="json", exclude_defaults=True)
    kernel = {"metric": "kernel_distance", "features": "pixels/pixels", "options": {"subset_size": 100}}
    return Suite.model_validate(body | {"name": "again", "metrics": [*body["metrics"], kernel]})


def _submit(fleet: Fleet, number: int, suite: Suite) -> int:
    spec = plan(fleet.context, fleet.checkpoint(number), "fleet", {"seconds": 0.5}, suite)
    return lifecycle.submit(fleet.database, spec).id


def _left(folder: Path) -> list[str]:
    """Command lines of processes that belong to the fleet and live."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (
                f"FLEET_LOG={folder}".encode() in (process / "environ").read_bytes()
                and int(process.name) != os.getpid()
            ):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--hits", type=int, default=100)
    parser.add_argument("--pause", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1, as workers have it here: other threads add in another order")
    rest = (given.hits, given.pause, given.seed)
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
