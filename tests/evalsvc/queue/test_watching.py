"""Heartbeats and verdicts, by the database's clock."""

import os
import threading
import time
from datetime import timedelta

import pytest

from evalsvc.core.settings import Settings
from evalsvc.evaluation import attempts, lifecycle
from evalsvc.evaluation.attempts import Attempt
from evalsvc.queue import heartbeat as heartbeat_module
from evalsvc.queue import worker_registry
from evalsvc.queue.heartbeat import EXIT_GIVEN_UP, Heartbeat, Task
from evalsvc.store.tables import Failure, Status, Worker, WorkerStatus
from tests.evalsvc.evaluation.test_lifecycle import row, spec


def silent_for(database, name, seconds):
    with database.write() as session:
        session.get_one(Worker, name).seen_at -= timedelta(seconds=seconds)


@pytest.fixture
def me(database):
    worker_registry.register(database, "me", "coordinator", "")
    worker_registry.register(database, "other", "slot", "cpu")
    return "me"


def test_the_silent_are_given_up_and_learn_of_it(database, me):
    assert worker_registry.declare_silent_lost(database, me, 30) == []
    silent_for(database, "other", 31)
    assert worker_registry.declare_silent_lost(database, me, 30) == ["other"]
    assert worker_registry.living(database) == {"me"}
    assert worker_registry.beat(database, "other") is None
    assert worker_registry.beat(database, me) is not None


def test_who_was_blind_itself_judges_nobody(database, me):
    silent_for(database, "other", 100)
    silent_for(database, me, 20)
    assert worker_registry.declare_silent_lost(database, me, 30) == []
    assert worker_registry.beat(database, me) >= 20
    assert worker_registry.declare_silent_lost(database, me, 30) == ["other"]


@pytest.mark.parametrize("hour", [3600, -3600])
def test_a_clock_that_was_set_gives_up_the_dead_and_not_the_living(database, me, hour):
    silent_for(database, "other", hour)
    silent_for(database, me, hour)
    assert worker_registry.declare_silent_lost(database, me, 30) == [], "its own last word is off as well"
    assert worker_registry.beat(database, me) > 30, "so it judges nobody for a while"
    assert worker_registry.declare_silent_lost(database, me, 30) == ["other"], "who does not come back is dead"


def test_what_a_parent_says_of_a_dead_child_needs_no_silence(database, me):
    worker_registry.end(database, "other", WorkerStatus.LOST)
    assert worker_registry.living(database) == {"me"}
    worker_registry.end(database, "other", WorkerStatus.DRAINING)
    assert worker_registry.living(database) == {"me"}, "what ended stays ended"


@pytest.fixture
def heartbeat(database, database_url, home, monkeypatch):
    def exit_(code):
        raise SystemExit(code)

    monkeypatch.setattr(heartbeat_module.os, "_exit", exit_)
    settings = Settings(home=home, database_url=database_url, heartbeat=1, dead_after=4, stall_after=60)
    return Heartbeat(settings, "heart", "slot", "cpu", os.getppid())


def test_a_newcomer_and_who_was_blind_wait_before_they_judge(database, heartbeat, monkeypatch):
    assert not heartbeat.may_declare_lost
    later = time.monotonic() + 5
    monkeypatch.setattr(heartbeat_module.time, "monotonic", lambda: later)
    assert heartbeat.may_declare_lost
    silent_for(database, "heart", 3)
    heartbeat._beat()
    assert not heartbeat.may_declare_lost


def test_a_process_that_was_given_up_ends_itself(database, heartbeat):
    heartbeat._beat()
    worker_registry.end(database, "heart", WorkerStatus.LOST)
    with pytest.raises(SystemExit) as ended:
        heartbeat._beat()
    assert ended.value.code == EXIT_GIVEN_UP


def test_a_process_whose_supervisor_is_gone_ends_itself_also_when_it_went_before_the_first_look(
    database, heartbeat, monkeypatch
):
    heartbeat._watch()
    monkeypatch.setattr(heartbeat_module.os, "getppid", lambda: 1)
    orphan = Heartbeat(heartbeat._settings, "orphan", "slot", "cpu", os.getpid())
    for end in (heartbeat._watch, orphan.start):
        with pytest.raises(SystemExit):
            end()
    assert worker_registry.living(database) == set()


def test_a_beat_says_what_a_slot_is_at(database, heartbeat):
    evaluation = lifecycle.submit(database, spec()).id
    heartbeat.task = Task(Attempt(evaluation, 1), "samples", None)
    heartbeat.task.advance(40)
    heartbeat._beat()
    with database.read() as session:
        seen = session.get_one(Worker, "heart")
    assert (seen.evaluation_id, seen.stage, seen.done) == (evaluation, "samples", 40)


def test_a_task_past_its_deadline_fails_its_evaluation_and_ends_the_process(database, heartbeat, monkeypatch):
    evaluation = lifecycle.submit(database, spec()).id
    heartbeat.task = Task(Attempt(evaluation, 1), "samples", limit=10)
    heartbeat._watch()
    later = time.monotonic() + 11
    monkeypatch.setattr(heartbeat_module.time, "monotonic", lambda: later)
    with pytest.raises(SystemExit):
        heartbeat._watch()
    failed = row(database, evaluation)
    assert (failed.status, failed.failure) == (Status.FAILED, Failure.TIMEOUT)
    assert failed.error == "samples exceeded its limit of 10 s"


def test_a_task_that_stirs_no_more_ends_the_process_and_fails_nothing(database, heartbeat, monkeypatch):
    evaluation = lifecycle.submit(database, spec()).id
    heartbeat.task = Task(Attempt(evaluation, 1), "samples", None)
    later = time.monotonic() + 61
    monkeypatch.setattr(heartbeat_module.time, "monotonic", lambda: later)
    with pytest.raises(SystemExit) as ended:
        heartbeat._watch()
    assert ended.value.code == EXIT_GIVEN_UP
    assert row(database, evaluation).status == Status.QUEUED


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_heartbeat_does_not_wait_for_the_evaluation_that_it_names(database):
    worker_registry.register(database, "busy", "slot", "cpu")
    evaluation = lifecycle.submit(database, spec()).id
    beat = threading.Thread(target=worker_registry.beat, args=(database, "busy", evaluation, "samples", 1), daemon=True)
    with database.write() as session:
        attempts.lock_attempt(session, Attempt(evaluation, 1))
        beat.start()
        beat.join(20)
        assert not beat.is_alive(), "each would wait for what the other holds: a deadlock"
