"""Who did what, without HTTP: the user of the operating system, one row a change, lines that nothing breaks."""

import json
import os
import pwd
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from evalsvc.api.server import token_store
from evalsvc.cli.console import out
from evalsvc.cli.main import app
from evalsvc.core.errors import InputError
from evalsvc.core.observability.rate_limit import RateLimit
from evalsvc.evaluation import lifecycle
from evalsvc.store import audit
from evalsvc.store.audit import Action, Actor
from evalsvc.store.session import HEAD, clock
from evalsvc.store.tables import ActorKind, AuditEntry, Evaluation, Scope
from tests.evalsvc.evaluation.test_lifecycle import spec

ME = pwd.getpwuid(os.getuid()).pw_name


def rows(database, **filters):
    with database.read() as session:
        return session.scalars(audit.entries(**filters).order_by(AuditEntry.id)).all()


def test_a_new_database_begins_with_who_made_it(database):
    [row] = rows(database)
    assert (row.action, row.subject, row.detail) == ("database.upgrade", "database", {"revision": HEAD, "was": None})
    assert (row.actor_kind, row.actor, row.outcome) == ("user", ME, "done")


def test_the_life_of_an_evaluation_is_told_with_who_moved_it(database):
    with audit.acting(Actor(ActorKind.TOKEN, "ci", 3, "10.0.0.1", "request-1")):
        run = lifecycle.submit(database, spec())
        lifecycle.submit(database, spec())
    lifecycle.cancel(database, run.id)
    lifecycle.cancel(database, run.id)
    lifecycle.retry(database, run.id)
    with pytest.raises(InputError):
        lifecycle.retry(database, run.id)
    found = rows(database, subject=f"evaluation {run.id}")
    assert [(row.action, row.outcome, row.actor) for row in found] == [
        ("evaluation.submit", "done", "ci"),
        ("evaluation.submit", "unchanged", "ci"),
        ("evaluation.cancel", "done", ME),
        ("evaluation.cancel", "unchanged", ME),
        ("evaluation.retry", "done", ME),
    ]
    assert (found[0].token_id, found[0].address, found[0].request) == (3, "10.0.0.1", "request-1")
    assert found[0].detail == {"checkpoint": "blobs@10", "suite": "pixels@1", "attempt": 1, "fresh": False}
    with database.read() as session:
        assert session.get_one(Evaluation, run.id).by == "ci"


def test_a_change_that_is_taken_back_takes_its_row_with_it(database):
    before = len(rows(database))

    def split():
        with database.write() as session:
            audit.record(session, Action.TOKEN_CREATE, "token 1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        split()
    assert len(rows(database)) == before


def test_names_from_outside_are_one_line_of_bounded_length(database):
    hostile = "a\n2026-01-01 root token.create\x1b[2J\u202e\x00\ud800" + "b" * 500
    with audit.acting(Actor(ActorKind.TOKEN, hostile, 1, hostile, hostile)), database.write() as session:
        audit.record(session, Action.ALIAS_MOVE, hostile, {"to": hostile, "path": "s3://key:hunter2@bucket/x"})
    row = rows(database, action="alias.move")[0]
    for text in (row.actor, row.address, row.request, row.subject, row.detail["to"]):
        assert text.isprintable()
        assert len(text) <= 300
    assert "hunter2" not in str(row.detail)
    assert row.actor.startswith("a\\n2026-01-01 root token.create\\x1b[2J\\u202e\\x00\\ud800bb")


def test_pruning_leaves_what_is_younger_and_says_that_it_was_done(database):
    token_store.create(database, "old", [Scope.READ])
    with database.write() as session:
        for row in session.scalars(audit.entries()):
            row.at -= timedelta(days=400)
        moment = clock(session)
    token_store.create(database, "new", [Scope.READ])
    assert audit.prune(database, moment - timedelta(days=365)) == 2
    assert [row.action for row in rows(database)] == ["token.create", "audit.prune"]
    assert rows(database)[-1].detail["rows"] == 2
    assert audit.prune(database, moment - timedelta(days=365)) == 0
    assert len(rows(database)) == 2


def test_what_is_repeated_is_admitted_now_and_then_and_the_rest_is_counted():
    at = 0.0
    limit = RateLimit(2, 60, clock=lambda: at)
    assert [limit.admit("a") for _ in range(5)] == [0, 0, None, None, None]
    assert limit.admit("b") == 0
    at = 61.0
    assert [limit.admit("a"), limit.admit("a"), limit.admit("a")] == [3, 0, None]
    assert sum(limit.admit(f"stranger {number}") is not None for number in range(100_000)) == 18
    assert len(limit._windows) <= 1025
    assert len(limit._suppressed) <= 1024


def evalsvc(*words):
    return CliRunner().invoke(app, words)


def test_the_command_line_tells_who_did_what(home, monkeypatch):
    monkeypatch.setattr(out, "width", 200)
    evalsvc("token", "create", "ci[/x]\u202e", "--scope", "submit")
    evalsvc("token", "revoke", "1")
    told = json.loads(evalsvc("audit", "--json", "--action", "token", "--since", "1h").stdout)
    assert [(each["action"], each["subject"], each["actor"]) for each in told] == [
        ("token.revoke", "token 1", ME),
        ("token.create", "token 1", ME),
    ]
    shown = evalsvc("audit", "--limit", "1").stdout
    assert "token.revoke" in shown
    assert "name ci[/x]\\u202e" in shown
    assert "no entries" in evalsvc("audit", "--until", "2020-01-01").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("audit", "--since", "yesterday"), "invalid time 'yesterday'"),
        (("audit", "--until", "999999w"), "invalid time '999999w'"),
        (("audit", "--action", "aliases"), "there is no action 'aliases': use one of read, evaluation.submit"),
        (("audit", "prune", "--before", ""), "--before requires a time"),
    ],
)
def test_what_is_no_filter_is_one_sentence(home, words, said):
    done = evalsvc(*words)
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)


def test_old_rows_are_pruned_on_demand(home):
    evalsvc("token", "create", "ci")
    assert "deleted 0 entries" in evalsvc("audit", "prune", "--before", "365d").output
    assert "deleted 2 entries" in evalsvc("audit", "prune", "--before", "0m").output
    assert len(json.loads(evalsvc("audit", "--json").stdout)) == 1


def test_the_environment_does_not_say_who_somebody_is(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert audit.current().name == ME
    monkeypatch.setattr(os, "getuid", lambda: 987_654)
    assert audit.current().name == "uid 987654"


def test_who_asks_again_and_again_for_what_is_there_fills_no_table(database):
    run = lifecycle.submit(database, spec())
    for token in (3, 4):
        with audit.acting(Actor(ActorKind.TOKEN, "ci", token)):
            for _ in range(20):
                lifecycle.submit(database, spec())
    assert len(rows(database, subject=f"evaluation {run.id}")) == 3
    with database.write() as session:
        for row in session.scalars(audit.entries(subject="evaluation")):
            row.at -= timedelta(minutes=2)
    lifecycle.submit(database, spec())
    assert len(rows(database, subject=f"evaluation {run.id}")) == 4


def test_what_is_stored_is_told_in_the_log_and_what_was_taken_back_is_not(database, caplog):
    caplog.set_level("INFO")

    def split():
        with database.write() as session:
            audit.record(session, Action.TOKEN_CREATE, "token 1")
            assert not caplog.records
            raise RuntimeError

    with pytest.raises(RuntimeError):
        split()
    assert not caplog.records
    token_store.create(database, "ci", [Scope.READ])
    [record] = caplog.records
    assert record.getMessage() == f"token.create of token 1 is done, by user {ME!r}"
    assert record.evalsvc["detail"] == {"name": "ci", "scopes": "read"}
