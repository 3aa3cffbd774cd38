"""The queue's commands, without workers: rows change, and what is shown is what they say."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from evalsvc.cli import queue
from evalsvc.cli.backends.local import Local
from evalsvc.cli.main import app
from evalsvc.core.cards import cards_of
from evalsvc.core.errors import InputError
from evalsvc.evaluation import attempts, lifecycle
from evalsvc.evaluation.attempts import Attempt
from evalsvc.queue import supervisor
from evalsvc.queue.supervisor import EXIT_USAGE, ProcessRole
from evalsvc.store.session import Database
from evalsvc.store.tables import Evaluation, Failure, Status
from tests.evalsvc.evaluation.test_lifecycle import spec


@pytest.fixture
def database(home):
    return Database(f"sqlite:///{home.resolve()}/evalsvc.db")


@pytest.fixture
def submitted(database):
    """Two evaluations on the queue; their ids."""
    return [lifecycle.submit(database, spec(digest * 64)).id for digest in "ab"]


def evalsvc(*arguments, code=0):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, InputError):
        assert code == 2
        return done
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_submit_prints_an_id_and_asks_for_nothing_twice(tmp_path, database):
    np.savez(tmp_path / "set_7.npz", np.zeros((2000, 1, 8, 8), np.uint8))
    command = ("submit", tmp_path / "set_7.npz", "--generator", "samples", "--model", "sets", "--priority", 3)
    first = evalsvc(*command)
    assert "sets@7: queued" in first.stderr
    (again,) = json.loads(evalsvc(*command, "--json").stdout)
    assert (again["id"], again["created"], again["status"]) == (int(first.stdout), False, "queued")
    with database.read() as session:
        assert session.get_one(Evaluation, again["id"]).priority == 3


def test_status_shows_what_waits_and_that_nobody_works(submitted):
    shown = evalsvc("status").stdout
    assert "blobs@10" in shown
    assert "no worker is running: start one with 'evalsvc worker'" in shown
    document = json.loads(evalsvc("status", "--json").stdout)
    assert [each["id"] for each in document["evaluations"]] == submitted[::-1]
    assert document["evaluations"][0]["stages"] == {"samples": {"done": 0, "due": 300}}
    assert document["workers"] == []


def test_cancel_and_retry(submitted, database):
    evalsvc("cancel", submitted[0])
    assert "attempt 2" in evalsvc("retry", submitted[0]).stderr
    attempt = Attempt(submitted[0], 2)
    attempts.start(database, attempt)
    attempts.fail(database, attempt, Failure.OUT_OF_MEMORY, "CUDA out of memory")
    assert "failed (out_of_memory): CUDA out of memory" in evalsvc("status", submitted[0]).stderr
    assert "its status is failed" in str(evalsvc("cancel", submitted[0], code=2).exception)
    assert "there is no evaluation 99" in str(evalsvc("wait", 99, code=2).exception)


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([(Status.SUCCEEDED, None), (Status.SUCCEEDED, None)], 0),
        ([(Status.SUCCEEDED, None), (Status.FAILED, Failure.MODEL)], 1),
        ([(Status.FAILED, Failure.TIMEOUT), (Status.FAILED, Failure.INFRASTRUCTURE)], 1),
        ([(Status.FAILED, Failure.INFRASTRUCTURE), (Status.CANCELLED, None)], 6),
        ([(Status.SUCCEEDED, None), (Status.CANCELLED, None)], 8),
        ([(Status.SUCCEEDED, None), (Status.QUEUED, None)], 4),
    ],
)
def test_the_exit_code_of_wait_says_how_it_ended(submitted, database, ends, code):
    with database.write() as session:
        for evaluation, (status, failure) in zip(submitted, ends, strict=True):
            row = session.get_one(Evaluation, evaluation)
            row.status, row.failure = status, failure
    done = evalsvc("wait", *submitted, "--timeout", 0, "--json", code=code)
    assert [each["status"] for each in json.loads(done.stdout)] == [status for status, _ in ends]


def test_without_the_engine_a_worker_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "evalsvc.queue.dbos_engine", raising=False)
    monkeypatch.setitem(sys.modules, "dbos", None)
    with pytest.raises(InputError, match=r"pip install 'evalsvc\[worker\]'"):
        import evalsvc.queue.dbos_engine  # noqa: F401


def test_waiting_outlives_a_database_that_is_restarted(submitted, database, monkeypatch):
    seen, looks = Local.progress, []

    def look(*asked):
        looks.append(asked)
        if len(looks) == 2:
            raise OperationalError("", {}, ConnectionError("it is restarted"))
        for each in submitted if len(looks) == 3 else ():
            lifecycle.cancel(database, each)
        return seen(*asked)

    monkeypatch.setattr(Local, "progress", look)
    monkeypatch.setattr(queue.time, "sleep", lambda _: None)
    evalsvc("wait", *submitted, code=8)
    assert len(looks) == 3


def test_a_process_of_a_worker_that_finds_no_database_is_started_again_and_one_that_is_wrong_is_not(home):
    def code(duty, **environment):
        command = [sys.executable, "-m", "evalsvc.queue.supervisor", "name", duty]
        return subprocess.run(command, env=os.environ | environment, capture_output=True, check=False).returncode

    coordinator = ProcessRole(role="coordinator").model_dump_json()
    assert code(coordinator, EVALSVC_DATABASE_URL="postgresql://127.0.0.1:1/x") not in (0, EXIT_USAGE)
    assert code(coordinator, EVALSVC_DATABASE_URL="oracle://x") == EXIT_USAGE


def test_each_slot_sees_one_card_and_knows_the_name_that_its_user_gave(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    told = []

    def start(command, env, **_):
        card = ProcessRole.model_validate_json(command[-1]).card
        told.append((env["CUDA_VISIBLE_DEVICES"], card.device, card.name))

    monkeypatch.setattr(supervisor.subprocess, "Popen", start)
    for card in cards_of("cuda:1,cuda:0", count=lambda: 2):
        supervisor._Child(ProcessRole(role="slot", card=card)).start()
    assert told == [("3", "cuda", "cuda:1"), ("2", "cuda", "cuda:0")]


def test_a_second_sigterm_inside_the_first_ones_handler_does_not_hang_a_worker(home):
    code = """
import os, signal, sys
from evalsvc.queue import supervisor

def again(frame, event, _):
    if event == "call" and frame.f_code.co_name == "notify_all":  # an event's, under its lock
        sys.setprofile(None)
        signal.raise_signal(signal.SIGTERM)

def be_asked_twice(settings, name, duty, asked, *_):
    sys.setprofile(again)
    os.kill(os.getpid(), signal.SIGTERM)
    asked.get()

supervisor._run_coordinator = be_asked_twice
supervisor.main("name", supervisor.ProcessRole(role="coordinator"))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_waiting_for_all_waits_for_what_workers_will_do_and_not_for_a_killed_score(submitted, database):
    killed = lifecycle.submit(database, spec("c" * 64), on_queue=False).id
    attempts.start(database, Attempt(killed, 1))
    for evaluation in submitted:
        lifecycle.cancel(database, evaluation)
    evalsvc("wait")
    evalsvc("wait", killed, "--timeout", 0, code=4)
