"""One line a record, whatever a record holds; every process that stays says what it does."""

import json
import logging
import os
import subprocess
import sys
import threading
import warnings

import pytest
from _pytest.logging import LogCaptureHandler

from evalsvc.core.errors import ModelError
from evalsvc.core.observability import logs
from evalsvc.core.settings import Settings
from evalsvc.evaluation import attempts, lifecycle
from evalsvc.store.tables import Failure
from tests.evalsvc.evaluation.test_lifecycle import spec

FORGED = "2026-11-28T15:00:00.000Z INFO evalsvc.queue.coordinator: evaluation 7 is succeeded"
HOSTILE = [
    f"server said: x\n{FORGED}\x1b[2J",
    f"x\r{FORGED}",
    f"x\r\n{FORGED}",
    f"x\x0b{FORGED}\x0c\x1c\x1d\x1e",
    f"x\x85{FORGED}",
    f"x\u2028{FORGED}\u2029{FORGED}",
    f"\x1b]0;title\x07\x1b[1A\x9b2K{FORGED}",
    f"\u202e{FORGED}\u2066\u200f\u061c",
    f"\x00\x08\x08\x7f{FORGED}",
    "\ud800 half a character",
    "%s %d %(name)s {0} {name}",
    "A" * 100_000,
]


@pytest.fixture(params=["text", "json"])
def form(request, monkeypatch):
    # pytest's own handlers keep records as they are, and half a character travels to no other process.
    monkeypatch.setattr(LogCaptureHandler, "emit", lambda *_: None)
    logs.setup(request.param, "debug")
    return request.param


def lines(capsys):
    return capsys.readouterr().err.split("\n")[:-1]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_from_outside_makes_a_line_of_its_own(form, capsys, text):
    log = logging.getLogger("evalsvc.tests")
    log.warning("evaluation %d: %s", 7, text)
    log.warning(text.replace("%", ""))
    logging.getLogger(text).warning("by its name")
    logs.request_id.set("request-1")
    warnings.warn(text, stacklevel=1)
    logs.request_id.set("")
    told = lines(capsys)
    assert len(told) == 4
    for line in told:
        assert line.isprintable()
        assert len(line) < 6 * 2 * logs.LONGEST
        assert (json.loads(line)["at"] if form == "json" else line)[:4].isdigit()
        assert not line.startswith(FORGED)


@pytest.mark.parametrize("text", HOSTILE[:8], ids=range(8))
def test_no_error_forges_a_line_of_its_traceback(form, capsys, text):
    def fail():
        try:
            raise KeyError(text)
        except KeyError as error:
            raise ExceptionGroup(text, [ModelError(text), ValueError(text)]) from error

    try:
        fail()
    except ExceptionGroup:
        logging.getLogger("evalsvc.tests").exception("it failed: %s", text)
    thread = threading.Thread(target=fail, name=text)
    thread.start()
    thread.join()
    told = lines(capsys)
    assert all(line.isprintable() for line in told)
    if form == "json":
        first, second = map(json.loads, told)
        assert [line.partition(":")[0] for line in first["exception"] if not line.startswith("File")] == [
            "KeyError",
            "ExceptionGroup",
            "ModelError",
            "ValueError",
        ]
        assert second["level"] == "error"
    else:
        begun = [line.split(" ")[1:3] for line in told if not line.startswith("  | ")]
        assert begun == [["ERROR", "evalsvc.tests:"], ["ERROR", "evalsvc:"]]


def test_a_log_that_cannot_be_written_stops_nothing(form, monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(28, "No space left on device")

        flush = write

    monkeypatch.setattr(sys, "stderr", Full())
    logging.getLogger("evalsvc.tests").warning("lost")
    monkeypatch.setattr(sys, "stderr", None)
    logging.getLogger("evalsvc.tests").warning("lost")


def test_a_password_in_an_address_is_not_written_down(form, capsys):
    logging.getLogger("evalsvc.tests").warning("no answer of %s", "postgresql://me:hunter2@db/x")
    assert "hunter2" not in capsys.readouterr().err


def test_facts_are_for_programs_and_take_no_key_of_the_record(capsys):
    logs.setup("json")
    logging.getLogger("evalsvc.tests").info("done", extra=logs.fields(evaluation=7, level="none", at=None))
    [line] = lines(capsys)
    record = json.loads(line)
    assert (record["evaluation"], record["level"], record["message"]) == (7, "info", "done")
    assert record["at"].endswith("Z")


@pytest.mark.parametrize(("name", "value"), [("LOG", "xml"), ("LOG_LEVEL", "loud"), ("LOG_LEVLE", "info")])
def test_a_setting_that_is_none_is_named(monkeypatch, name, value):
    monkeypatch.setenv(f"EVALSVC_{name}", value)
    with pytest.raises(Exception, match=f"EVALSVC_{name}"):
        Settings()


def test_evaluations_tell_when_they_begin_and_how_they_end(database, caplog):
    caplog.set_level(logging.INFO)
    run = lifecycle.submit(database, spec())
    attempt = attempts.Attempt(run.id, 1)
    attempts.start(database, attempt)
    attempts.start(database, attempt)
    attempts.fail(database, attempt, Failure.MODEL, HOSTILE[0])
    attempts.fail(database, attempt, Failure.MODEL, "again")
    lifecycle.retry(database, run.id)
    lifecycle.cancel(database, run.id)
    told = [record.evalsvc for record in caplog.records if record.name == "evalsvc.evaluation.attempts"]
    assert [(each["evaluation"], each["status"], each["failure"]) for each in told] == [
        (run.id, "running", None),
        (run.id, "failed", "model"),
        (run.id, "cancelled", None),
    ]


def test_a_worker_process_says_a_wrong_setting_in_one_line(home):
    environment = os.environ | {"EVALSVC_HEARTBEAT": f"soon\n{FORGED}"}
    command = [sys.executable, "-m", "evalsvc.queue.supervisor", "name", '{"role": "slot"}']
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "EVALSVC_HEARTBEAT" in line


def test_the_warnings_of_a_server_about_what_is_no_request_are_told_now_and_then(capsys):
    from evalsvc.api.server.access_log import Repeats

    logs.setup()
    log = logging.getLogger("evalsvc.tests.server")
    log.addFilter(Repeats())
    for _ in range(500):
        log.warning("Invalid HTTP request received.")
    log.error("it ends")
    assert len(lines(capsys)) == 21


@pytest.mark.parametrize("text", HOSTILE[:10], ids=range(10))
def test_a_warning_of_a_command_is_one_line_too(monkeypatch, text):
    monkeypatch.setattr(logging, "lastResort", logging.StreamHandler())
    logs.setup_command()
    told = logging.lastResort.format(logging.makeLogRecord({"msg": "waiting for the database: %s", "args": (text,)}))
    assert told.isprintable()
    assert told.startswith("waiting for the database: ")
