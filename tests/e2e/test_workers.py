"""Real workers, killed, frozen, cut off from their database: nothing is lost, nothing done twice, nothing half."""

import os
import signal
import time
from pathlib import Path

import pytest

from evalsvc.evaluation import lifecycle
from evalsvc.evaluation.lifecycle import Deadlines
from evalsvc.inputs.suites import load_suite
from evalsvc.queue.dbos_engine import MAX_STARTS
from evalsvc.store.tables import Failure, Status, WorkerStatus
from tests.e2e.fleet import Fleet, kill, scores
from tests.postgres import postgres_server


@pytest.fixture
def on_sqlite(tmp_path):
    fleet = Fleet(tmp_path, f"sqlite:///{tmp_path}/rows.db", batch=20, samples=200, shard=40)
    yield fleet
    fleet.stop()


@pytest.fixture
def server():
    """A Postgres that nobody else uses, so that it may be crashed."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def on_postgres(tmp_path, server):
    fleet = Fleet(tmp_path, server.get_uri(), batch=20, samples=200, shard=40)
    yield fleet
    fleet.stop()


def assert_as_undisturbed(fleet: Fleet, ids: dict[int, int]) -> None:
    expected = fleet.undisturbed(ids, load_suite(str(fleet.suite)))
    for number, evaluation in ids.items():
        assert [scores(fleet.database, evaluation)] == expected[number]
    assert not fleet.computed_after_finished(), "a finished shard was computed again"
    assert sum(shard.evaluation_id in ids.values() for shard in fleet.shards()) == 5 * len(ids)


def test_workers_killed_frozen_and_cancelled_on_sqlite(on_sqlite):
    fleet = on_sqlite
    ids = {number: fleet.submit(number, seconds=0.3) for number in range(2)}
    fleet.start(slots=2)

    # kill -9 of a slot in the middle of a shard: only what was not finished is computed again
    fleet.wait(lambda: fleet.calls())
    time.sleep(0.5)
    kill(fleet.calls()[-1].pid)
    # and of the coordinator, which holds the evaluations' workflows
    fleet.wait(lambda: len(fleet.shards()) >= 4)
    kill(fleet.workers("coordinator")[0].pid)
    fleet.wait(fleet.ended)
    assert {each.status for each in fleet.progress()} == {Status.SUCCEEDED}
    assert_as_undisturbed(fleet, ids)

    # cancelled in mid-shard: the batch in hand is the last one
    cancelled = fleet.submit(8, seconds=1)
    fleet.wait(lambda: [call for call in fleet.calls() if call.checkpoint == fleet.name(8)])
    begun = len(fleet.calls())
    lifecycle.cancel(fleet.database, cancelled)

    # frozen for longer than the limit, then thawed: its work is done by the other, and it writes nothing
    fleet.wait(lambda: len(fleet.workers("slot")) == 2)
    frozen_at = fleet.submit(9, seconds=0.3)
    fleet.wait(lambda: [call for call in fleet.calls() if call.checkpoint == fleet.name(9)])
    victim = [call for call in fleet.calls() if call.checkpoint == fleet.name(9)][-1].pid
    os.kill(victim, signal.SIGSTOP)
    (name,) = [row.id for row in fleet.workers("slot") if row.pid == victim]
    fleet.wait(lambda: next(each for each in fleet.progress() if each.id == frozen_at).ended)
    shards, files = fleet.shards(), fleet.files()
    os.kill(victim, signal.SIGCONT)
    fleet.wait(lambda: not Path(f"/proc/{victim}").exists())
    assert fleet.files() == files
    assert [(row.path, row.worker) for row in fleet.shards()] == [(row.path, row.worker) for row in shards]
    assert fleet.worker(name).status == WorkerStatus.LOST
    more = [call for call in fleet.calls()[begun:] if call.checkpoint == fleet.name(8)]
    assert len(more) <= 2, "each slot, at the edge of a batch, may have begun one more"

    # hung on the device: past its deadline the evaluation fails by name, and its process is another
    hung = fleet.submit(10, deadlines=Deadlines(shard=2), seconds=0.1, hangs=60)
    fleet.wait(lambda: next(each for each in fleet.progress() if each.id == hung).ended)
    found = next(each for each in fleet.progress() if each.id == hung)
    assert (found.failure, found.error) == (Failure.TIMEOUT, "samples exceeded its limit of 2 s")

    # SIGTERM: nobody is left, and nobody has to be given up
    fleet.supervisors[0].terminate()
    assert fleet.supervisors[0].wait(60) == 0
    assert fleet.workers() == []


def test_two_machines_an_unfit_one_a_poisonous_shard_and_a_crashed_postgres(on_postgres, server, tmp_path):
    fleet = on_postgres
    unfit = fleet.start(slots=1, home=tmp_path / "unfit", FLEET_GENERATOR="another")
    machines = {fleet.start(slots=1, home=tmp_path / f"machine-{number}").pid for number in range(2)}
    fleet.wait(lambda: len(fleet.workers("slot")) == 3)
    ids = {number: fleet.submit(number, seconds=0.1) for number in range(3)}
    # What lacks the generator leaves the work to the others, which share what comes when both are idle.
    fleet.wait(lambda: "other workers may run it" in (fleet.folder / "worker.log").read_text())
    unfit.terminate()
    fleet.wait(fleet.ended)
    ids[3] = fleet.submit(3, seconds=0.5)
    fleet.wait(lambda: fleet.machines(3) == machines)
    postmaster = server.get_pid()
    os.kill(postmaster, signal.SIGQUIT)  # "immediate": no checkpoint, no goodbyes
    fleet.wait(lambda: not Path(f"/proc/{postmaster}").exists())
    time.sleep(2)
    server.ensure_postgres_running()
    poison = fleet.submit(7, seconds=0.1, poison=60)
    fleet.wait(fleet.ended, 240)
    found = {each.id: each for each in fleet.progress()}
    assert (found[poison].status, found[poison].failure) == (Status.FAILED, Failure.INFRASTRUCTURE)
    assert found[poison].error == f"samples 40-80 crashed its worker process {MAX_STARTS} times"
    assert sum(call.checkpoint == fleet.name(7) and call.start == 60 for call in fleet.calls()) == MAX_STARTS
    assert {found[evaluation].status for evaluation in ids.values()} == {Status.SUCCEEDED}
    assert_as_undisturbed(fleet, ids)
