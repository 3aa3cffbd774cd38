"""One clock, that of the database, judges what is stored: a machine whose own is wrong loses nothing."""

import ast
import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

import evalsvc
from evalsvc import dashboards
from evalsvc.api.server import token_store, webhook_delivery
from evalsvc.cli.audit import moment
from evalsvc.core.files.atomic_files import file_time
from evalsvc.evaluation import attempts, lifecycle
from evalsvc.evaluation.attempts import Attempt
from evalsvc.evaluation.garbage_collection import partial_files, unused_uploads
from evalsvc.evaluation.lifecycle import Deadlines
from evalsvc.queue.pending import overdue
from evalsvc.store import dashboard_queries, outbox, tables
from evalsvc.store.session import clock, database_time
from evalsvc.store.tables import DatabaseTime, Delivery, Evaluation, Scope, Shard, Token, Webhook
from tests.evalsvc.evaluation.test_lifecycle import spec

HOUR = timedelta(hours=1)
SLACK = timedelta(minutes=5)


@pytest.fixture(params=[-HOUR, HOUR], ids=["behind", "ahead"])
def shifted(request, monkeypatch):
    """This process's clock is an hour off; those of the database and of files are not."""
    shift, real = request.param, time.time

    class Shifted(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromtimestamp(real() + shift.total_seconds(), tz)

    monkeypatch.setattr(time, "time", lambda: real() + shift.total_seconds())
    for module in (
        "evalsvc.store.tables.base",
        "evalsvc.core.files.verification",
        "evalsvc.core.files.atomic_files",
        "evalsvc.cli.queue",
    ):
        monkeypatch.setattr(_module(module), "datetime", Shifted)
    assert abs(tables.now() - datetime.now(UTC)) > HOUR - SLACK
    return shift


def _module(name):
    import importlib

    return importlib.import_module(name)


def near(stored, right):
    return abs(stored - right) < SLACK


def test_every_time_of_a_row_is_of_the_database(database, shifted):
    now = database_time(database)
    assert near(now, datetime.now(UTC))
    asked = lifecycle.submit(database, spec(), deadlines=Deadlines(queued=600))
    attempt = Attempt(asked.id, 1)
    attempts.start(database, attempt)
    attempts.record_shard(database, attempt, kind="samples", start=0, stop=5, path="a/0-5", cost=None)
    attempts.fail(database, attempt, tables.Failure.MODEL, "no")
    with database.read() as session:
        row = session.get_one(Evaluation, asked.id)
        times = [
            row.created_at,
            row.requested_at,
            row.started_at,
            row.finished_at,
            row.begin_by - timedelta(minutes=10),
        ]
        times += [row.checkpoint.created_at, row.suite.created_at, session.scalars(select(Shard)).one().finished_at]
    assert [each for each in times if not near(each, now)] == []
    assert row.requested_at <= row.started_at <= row.finished_at


def test_a_token_lives_exactly_as_long_as_it_was_given(database, shifted):
    row, secret = token_store.create(database, "ci", [Scope.READ], timedelta(minutes=10))
    assert token_store.recognize(database, secret).name == "ci"
    assert token_store.usable(database) == 1
    with database.read() as session:
        assert near(session.get_one(Token, row.id).last_used_at, clock(session))
    with database.write() as session:
        session.execute(update(Token).values(expires_at=clock(session) - timedelta(minutes=1)))
    assert token_store.recognize(database, secret) is None
    assert token_store.usable(database) == 0


def test_a_message_is_due_at_once_and_leased_to_one(database, shifted):
    with database.write() as session:
        session.add(Webhook(url="https://a.test/", events=["gate.decided"], secret="whsec_eA=="))
        session.flush()
        outbox._owe(session, "gate.decided", {"gate": 1})
    (hook,) = webhook_delivery.waiting(database)
    taken = webhook_delivery._take(database, hook)
    assert near(taken.due_at - webhook_delivery.LEASE, datetime.now(UTC))
    assert (webhook_delivery.waiting(database), webhook_delivery._take(database, hook)) == (set(), None)
    webhook_delivery._settle(database, taken, "it is away")
    with database.read() as session:
        assert timedelta() < session.scalars(select(Delivery)).one().due_at - clock(session) < timedelta(seconds=6)


def test_no_deadline_passes_by_the_clock_of_a_machine(database, shifted):
    asked = lifecycle.submit(database, spec(), deadlines=Deadlines(queued=600))
    assert overdue(database) == []
    with database.write() as session:
        session.execute(update(Evaluation).values(begin_by=clock(session) - timedelta(seconds=1)))
    assert [attempt.evaluation for attempt, _ in overdue(database)] == [asked.id]


def test_a_sweep_leaves_what_was_written_just_now(database, shifted, tmp_path, monkeypatch):
    from evalsvc.store.artifacts import Artifacts

    uploads = tmp_path / "uploads"
    (uploads / "new").mkdir(parents=True)
    (uploads / "old").mkdir()
    os.utime(uploads / "old", times=(time.time() - 7200 - shifted.total_seconds(),) * 2)
    artifacts = Artifacts(tmp_path / "artifacts")
    split = tmp_path / "artifacts" / ".tmp-half"
    split.parent.mkdir()
    split.touch()
    before = database_time(database) - timedelta(minutes=30)
    assert [Path(each.name).name for each in unused_uploads(database, uploads, before, remove=True)] == ["old"]
    assert list(partial_files(artifacts, file_time(artifacts.root) - timedelta(minutes=30), remove=True)) == []
    assert split.exists()


def test_a_page_is_new_whenever_an_evaluation_ends_even_where_the_clock_was_set_back(database):
    first, second = (lifecycle.submit(database, spec(seed=seed)) for seed in (1, 2))
    lifecycle.cancel(database, first.id)
    with database.write() as session:
        session.execute(update(Evaluation).where(Evaluation.id == first.id).values(finished_at=clock(session) + HOUR))
        before = dashboard_queries.revision(session)
    lifecycle.cancel(database, second.id)
    with database.read() as session:
        assert dashboard_queries.revision(session) != before


def test_how_long_ago_is_counted_from_the_time_that_it_is_given():
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert moment("2h", now) == now - timedelta(hours=2)


def test_the_database_writes_times_as_they_compare(database):
    with database.write() as session:
        session.add(tables.Model(name="m"))
        session.flush()
        at = session.scalars(select(tables.Model.created_at)).one()
        assert session.scalar(select(tables.Model.id).where(tables.Model.created_at <= DatabaseTime())) is not None
        assert session.scalar(select(tables.Model.id).where(tables.Model.created_at == at)) is not None
        assert session.scalar(select(tables.Model.id).where(tables.Model.created_at > DatabaseTime())) is None


OWN_CLOCK = {
    "artifacts.py": "where a folder cannot be written, no file of it is taken for a later one",
    "atomic_files.py": "where a folder cannot be written, nothing is swept either",
    "checksums.py": "when this process read a file, and compared with that alone",
    "endpoint_requests.py": "how long until the date that another server names",
    "paid_answers.py": "the age of files, of which old ones are swept",
    "gates.py": "the calendar day of a page that shows what a policy would do",
    "queue.py": "how long ago, on a terminal",
    "base.py": "the definition",
    "verification.py": "a note for people",
}
"""Why these files may ask this machine's clock."""


def test_no_other_file_asks_the_clock_of_its_machine():
    """What is stored and compared with it would differ from machine to machine: use DatabaseTime or clock()."""
    asked = set()
    for package in (evalsvc, dashboards):
        for file in Path(package.__file__).parent.rglob("*.py"):
            text = file.read_text()
            for node in ast.walk(ast.parse(text)) if re.search("now|time.time|today", text) else ():
                called = node.func if isinstance(node, ast.Call) else None
                name = ast.unparse(called) if called else ""
                if name in ("now", "datetime.now", "time.time", "time.time_ns", "date.today", "datetime.utcnow"):
                    asked.add(file.name)
    assert asked == OWN_CLOCK.keys()
