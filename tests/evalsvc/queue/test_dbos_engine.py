"""What evalsvc asks of DBOS, asked of DBOS itself: a version that answers otherwise is found here."""

from __future__ import annotations

import json
import os
from datetime import timedelta

import pytest
from dbos import DBOS
from sqlalchemy import create_engine, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from evalsvc.core.settings import Settings
from evalsvc.evaluation import attempts, lifecycle
from evalsvc.evaluation.attempts import Attempt
from evalsvc.evaluation.lifecycle import Deadlines
from evalsvc.evaluation.shards import Shard
from evalsvc.queue import dbos_engine, worker_registry
from evalsvc.queue.coordinator import ENQUEUED_PER_SLOT, Coordinator
from evalsvc.queue.heartbeat import Heartbeat
from evalsvc.queue.pending import overdue, pending, pending_evaluations
from evalsvc.queue.worker_metrics import WorkerMetrics
from evalsvc.store import session as sessions
from evalsvc.store.session import clock
from evalsvc.store.tables import Evaluation, Failure, Status, Worker, now
from tests.evalsvc.evaluation.test_lifecycle import row, spec


class ServerDep:
    """The one slot of these tests, and what it was asked to do. It computes nothing."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def missing_shards(self, attempt: Attempt) -> list[Shard]:
        return [Shard(kind="samples", start=0, stop=100), Shard(kind="samples", start=100, stop=200)]

    def compute(self, attempt: Attempt, shard: Shard) -> bool:
        self.done.append((attempt.evaluation, shard.start))
        return True

    def measure(self, attempt: Attempt) -> bool:
        self.done.append((attempt.evaluation, "metrics"))
        return True


@pytest.fixture
def here():
    return ServerDep()


@pytest.fixture
def launched(database, database_url, here):
    """An engine whose queues are filled and, since this process listens to another role's, not emptied."""

    def launch(role):
        dbos_engine.launch(database_url, f"this-{role}", role, here)

    yield launch
    DBOS.destroy()


def submit(database, number, **asked):
    return lifecycle.submit(database, spec(f"{number:064d}"), **asked).id


def in_engine(database_url, query, **values):
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        query = query.replace("dbos.", "")
    opened = create_engine(dbos_engine._system_database(database_url).replace("postgresql://", "postgresql+psycopg://"))
    with opened.begin() as connection:
        result = connection.execute(text(query), values)
        found = result.all() if result.returns_rows else []
    opened.dispose()
    return found


def test_work_of_the_dead_goes_back_on_the_queue_and_that_of_the_living_stays(database, database_url, launched):
    launched("slot")
    for number in (1, 2):
        submit(database, number)
    ids = [dbos_engine.workflow_id(pending_evaluation) for pending_evaluation in pending_evaluations(database)]
    for pending_evaluation in pending_evaluations(database):
        dbos_engine.enqueue(pending_evaluation)
        dbos_engine.enqueue(pending_evaluation)
    assert dbos_engine.active() == set(ids)
    claim = "UPDATE dbos.workflow_status SET status = 'PENDING', executor_id = :who WHERE workflow_uuid = :which"
    for who, which in zip(("dead", "alive"), ids, strict=True):
        in_engine(database_url, claim, who=who, which=which)
    assert dbos_engine.claim_holders() == {"dead", "alive"}
    dbos_engine.requeue({"dead"})
    dbos_engine.requeue({"dead"})
    assert dbos_engine.claim_holders() == {"alive"}
    assert dbos_engine.active() == set(ids)
    rows = in_engine(database_url, "SELECT workflow_uuid, status, queue_name FROM dbos.workflow_status")
    assert {(which, status) for which, status, _ in rows} == {(ids[0], "ENQUEUED"), (ids[1], "PENDING")}
    assert {queue for *_, queue in rows} == {"evaluations"}


def test_payloads_are_json_never_pickles(database, database_url, launched):
    launched("slot")
    submit(database, 1)
    dbos_engine.enqueue(pending_evaluations(database)[0])
    ((inputs,),) = in_engine(database_url, "SELECT inputs FROM dbos.workflow_input")
    assert json.loads(inputs)["positionalArgs"] == [1, 1, lifecycle.PRIORITY]


def test_what_ended_long_ago_is_forgotten(database, database_url, launched):
    launched("slot")
    submit(database, 1)
    pending_evaluation = pending_evaluations(database)[0]
    dbos_engine.enqueue(pending_evaluation)
    dbos_engine.cancel({dbos_engine.workflow_id(pending_evaluation)})
    assert dbos_engine.outcome(dbos_engine.workflow_id(pending_evaluation)) == "CANCELLED"
    dbos_engine.prune(now() - timedelta(minutes=1))
    assert dbos_engine.outcome(dbos_engine.workflow_id(pending_evaluation)) == "CANCELLED"
    dbos_engine.prune(now() + timedelta(minutes=1))
    assert dbos_engine.outcome(dbos_engine.workflow_id(pending_evaluation)) is None


@pytest.fixture
def coordinator(database, database_url, home, launched):
    settings = Settings(home=home, database_url=database_url)
    made = Coordinator(settings, Heartbeat(settings, "this-slot", "slot", "cpu", os.getppid()), WorkerMetrics())
    launched("slot")
    return made


def test_few_are_handed_over_and_the_urgent_pass_the_others(database, coordinator):
    for number in range(5):
        submit(database, number)
    coordinator.reconcile()
    coordinator.reconcile()
    assert len(dbos_engine.active()) == ENQUEUED_PER_SLOT * 1
    urgent = submit(database, 9, priority=1)
    coordinator.reconcile()
    assert len(dbos_engine.active()) == ENQUEUED_PER_SLOT + 1
    assert any(workflow.startswith(f"{urgent}-1-") for workflow in dbos_engine.active())


def test_a_coordinator_decides_about_few_however_many_wait(database, coordinator):
    running, *others = (submit(database, number, priority=10 + number) for number in range(12))
    attempts.start(database, Attempt(running, 1))
    lifecycle.cancel(database, others[-1])
    asked = pending(database, {others[-1], others[-2]}, 3)
    assert [pending_evaluation.attempt.evaluation for pending_evaluation in asked] == [running, *others[:3], others[-2]]
    coordinator.reconcile()
    lifecycle.cancel(database, others[0])
    for _ in range(3):
        coordinator.reconcile()
    assert {dbos_engine.evaluation_of(workflow) for workflow in dbos_engine.active()} == {running, *others[1:3]}


def test_however_many_are_more_urgent_few_are_handed_over(database, coordinator):
    for number in range(4):
        submit(database, number)
    coordinator.reconcile()
    for number in range(10, 22):
        submit(database, number, priority=1)
    coordinator.reconcile()
    assert len(dbos_engine.active()) <= 3 * ENQUEUED_PER_SLOT


@pytest.mark.parametrize("limit", [600, 1e300])
def test_a_deadline_counts_from_each_attempt(database, limit):
    evaluation = submit(database, 1, deadlines=Deadlines(queued=limit))
    lifecycle.cancel(database, evaluation)
    with database.write() as session:
        session.get_one(Evaluation, evaluation).begin_by = past = clock(session) - timedelta(seconds=1)
    assert overdue(database) == []
    lifecycle.retry(database, evaluation)
    assert row(database, evaluation).begin_by > past + timedelta(seconds=600)
    assert overdue(database) == []
    with database.write() as session:
        session.get_one(Evaluation, evaluation).begin_by = past
    assert overdue(database) == [(Attempt(evaluation, 2), limit)]


def test_the_engine_follows_the_rows(database, coordinator):
    evaluation = submit(database, 1)
    coordinator.reconcile()
    (first,) = dbos_engine.active()
    lifecycle.cancel(database, evaluation)
    coordinator.reconcile()
    coordinator.reconcile()
    assert dbos_engine.outcome(first) == "CANCELLED"
    lifecycle.retry(database, evaluation)
    coordinator.reconcile()
    (second,) = dbos_engine.active()
    assert second.startswith(f"{evaluation}-2-")


def test_an_engine_that_lost_everything_is_given_everything_again(database, database_url, coordinator):
    evaluation = submit(database, 1)
    coordinator.reconcile()
    attempts.start(database, Attempt(evaluation, 1))
    before = dbos_engine.active()
    in_engine(database_url, "DELETE FROM dbos.workflow_status")
    coordinator.reconcile()
    assert dbos_engine.active() == before
    assert row(database, evaluation).status == Status.RUNNING


@pytest.mark.parametrize(
    ("state", "status", "error"),
    [
        ("SUCCESS", Status.QUEUED, None),
        ("ERROR", Status.FAILED, "the queue gave up on it (error)"),
    ],
)
def test_what_the_engine_ended_and_the_rows_did_not_is_made_good(
    database, database_url, coordinator, state, status, error
):
    evaluation = submit(database, 1)
    coordinator.reconcile()
    in_engine(database_url, "UPDATE dbos.workflow_status SET status = :state", state=state)
    coordinator.reconcile()
    found = row(database, evaluation)
    assert (found.status, found.error) == (status, error)
    assert found.attempt == (2 if status == Status.QUEUED else 1)


def test_what_another_coordinator_has_just_handed_over_is_left_alone(database, coordinator, monkeypatch):
    evaluation = submit(database, 1)
    coordinator.reconcile()
    monkeypatch.setattr(dbos_engine, "active", set)  # as this one saw it, a moment before
    coordinator.reconcile()
    assert (row(database, evaluation).status, row(database, evaluation).attempt) == (Status.QUEUED, 1)


def test_a_job_that_was_given_up_fails_its_evaluation_by_name(database, database_url, coordinator):
    evaluation = submit(database, 1)
    coordinator.reconcile()
    (workflow,) = dbos_engine.active()
    given_up = "name = 'shard', workflow_uuid = :job, status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'"
    job = f"{workflow}/samples 100-200"
    in_engine(database_url, f"UPDATE dbos.workflow_status SET {given_up}", job=job)
    coordinator.reconcile()
    found = row(database, evaluation)
    assert (found.failure, found.error) == (
        Failure.INFRASTRUCTURE,
        f"samples 100-200 crashed its worker process {dbos_engine.MAX_STARTS} times",
    )


def test_what_every_living_worker_refuses_fails_by_name(database, coordinator):
    attempt = Attempt(submit(database, 1), 1)
    worker_registry.register(database, "another", "slot", "cpu")
    refusals = [{"worker": "this-slot", "reason": "no generator 'x'"}]
    assert not coordinator.refused(attempt, refusals)
    assert row(database, attempt.evaluation).status == Status.QUEUED
    refusals.append({"worker": "another", "reason": "no generator 'x' either"})
    assert coordinator.refused(attempt, refusals)
    found = row(database, attempt.evaluation)
    assert (found.failure, found.error) == (
        Failure.INFRASTRUCTURE,
        "no worker can compute it: no generator 'x' either",
    )


@pytest.fixture
def later(database):
    """Let deadlines come nearer, as time that passes does."""

    def later(seconds):
        with database.write() as session:
            for run in session.scalars(select(Evaluation).where(Evaluation.begin_by.is_not(None))):
                run.begin_by -= timedelta(seconds=seconds)

    return later


@pytest.mark.parametrize("others", [0, ENQUEUED_PER_SLOT], ids=["enqueued", "waiting to be"])
def test_an_evaluation_that_no_worker_begins_in_time_says_so(database, coordinator, later, others):
    for number in range(others):
        submit(database, 10 + number)
    evaluation = submit(database, 1, deadlines=Deadlines(queued=600))
    coordinator.reconcile()
    assert len(dbos_engine.active()) == (others or 1)
    assert row(database, evaluation).status == Status.QUEUED
    later(601)
    coordinator.reconcile()
    found = row(database, evaluation)
    assert (found.failure, found.error) == (Failure.TIMEOUT, "no worker started it within 600 s")
    coordinator.reconcile()
    coordinator.reconcile()
    assert not any(workflow.startswith(f"{evaluation}-") for workflow in dbos_engine.active())


def test_what_a_worker_has_begun_waits_for_none(database, coordinator, later):
    evaluation = submit(database, 1, deadlines=Deadlines(queued=600))
    attempts.start(database, Attempt(evaluation, 1))
    later(601)
    coordinator.reconcile()
    assert row(database, evaluation).status == Status.RUNNING


def test_who_waited_for_the_database_asks_anew_whether_it_may_judge(database, coordinator, monkeypatch):
    worker_registry.register(database, "other", "slot", "cpu")
    with database.write() as session:
        session.get_one(Worker, "other").seen_at -= timedelta(hours=1)
    answers, judge = iter([True, False]), worker_registry.declare_silent_lost
    monkeypatch.setattr(Heartbeat, "may_declare_lost", property(lambda _: next(answers)))
    monkeypatch.setattr(sessions.time, "sleep", lambda _: None)

    def away(*_):
        monkeypatch.setattr(worker_registry, "declare_silent_lost", judge)
        raise OperationalError("", {}, ConnectionError("it is restarted"))

    monkeypatch.setattr(worker_registry, "declare_silent_lost", away)
    coordinator.reap()
    assert "other" in worker_registry.living(database)
