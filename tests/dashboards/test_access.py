"""Who is let in, and what they may do."""

import os
import sys
from datetime import timedelta

import pytest
import streamlit as st
import streamlit.logger
import uvicorn
from typer.testing import CliRunner
from uvicorn.config import LOGGING_CONFIG

from evalsvc.analysis import human_ratings
from evalsvc.analysis.human_ratings import Pair
from evalsvc.api.server import token_store
from evalsvc.cli.main import app
from evalsvc.core.observability import logs
from evalsvc.dashboards import access
from evalsvc.dashboards.__main__ import log_as_one
from evalsvc.store import audit
from evalsvc.store.tables import Evaluation, Scope, Status

from .stores import add_failure, fill


@pytest.fixture
def guarded(use_home, tmp_path, monkeypatch):
    """A store that asks for tokens."""
    database = use_home(tmp_path)
    fill(database, ["gan", "vae"], range(0, 2000, 1000))
    monkeypatch.setattr(access, "needs_token", lambda: True)
    return database


def sign_in(at, secret):
    at.text_input[0].set_value(secret)
    return at.button[0].click().run()


@pytest.mark.parametrize("view", ["leaderboard", "gates", "operations", "rate"])
def test_without_a_token_a_page_shows_nothing_but_the_question(view, guarded, page):
    at = page(view)
    assert not at.exception
    assert at.title[0].value == "evalsvc"
    assert not at.dataframe
    assert not at.selectbox


def test_a_token_opens_the_page_and_ends_with_its_revocation(guarded, page):
    row, secret = token_store.create(guarded, "ann", [Scope.READ])
    at = sign_in(page("trends"), secret)
    assert at.dataframe
    token_store.revoke(guarded, row.id)
    assert not at.run().dataframe


def test_an_expired_token_is_refused(guarded, page):
    _, secret = token_store.create(guarded, "ann", [Scope.READ], timedelta(seconds=-1))
    at = sign_in(page("trends"), secret)
    assert "unknown, revoked or expired" in at.error[0].value
    assert not at.dataframe


@pytest.mark.parametrize("scope", [Scope.READ, Scope.SUBMIT])
def test_only_who_may_submit_can_try_a_failed_evaluation_again(scope, guarded, page):
    add_failure(guarded, 1, 1500, "out of luck")
    token, secret = token_store.create(guarded, "ann", [scope])
    at = sign_in(page("operations"), secret)
    retry = next(button for button in at.button if button.key and button.key.startswith("retry"))
    assert retry.disabled == (scope is Scope.READ)
    retry.proto.disabled = False  # a forged message does not care how the button looks
    at = retry.click().run()
    assert not at.exception
    with guarded.read() as session:
        status = session.query(Evaluation).order_by(Evaluation.id.desc()).first().status
        retries = session.scalars(audit.entries(action="evaluation.retry")).all()
    assert status == (Status.FAILED if scope is Scope.READ else Status.QUEUED)
    expected = [] if scope is Scope.READ else [("page", "ann", token.id)]
    assert [(row.actor_kind, row.actor, row.token_id) for row in retries] == expected


ANN = {"is_logged_in": True, "sub": "u|7", "email": "Ann@Example.com", "email_verified": True}


@pytest.mark.parametrize(
    ("user", "scopes", "expected"),
    [
        (ANN, {"ann@example.com": "submit"}, {Scope.READ, Scope.SUBMIT}),
        (ANN, {"@Example.com": "read"}, {Scope.READ}),
        (ANN, {"@example.com": "submit", "ann@example.com": "read"}, {Scope.READ}),  # the person before the domain
        (ANN, {"u|7": "read"}, {Scope.READ}),
        (ANN, {}, set()),
        (ANN, {"bob@example.com": "admin", "@ample.com": "admin", "example.com": "admin"}, set()),
        (ANN, {"ann@example.com": "everything"}, set()),
        (ANN | {"email_verified": False}, {"ann@example.com": "admin", "@example.com": "admin"}, set()),
        (ANN | {"email_verified": None}, {"ann@example.com": "admin"}, set()),
        (ANN | {"is_logged_in": False}, {"ann@example.com": "admin"}, set()),
        ({}, {"ann@example.com": "admin", "None": "admin"}, set()),
    ],
)
def test_a_login_has_what_was_granted_and_nothing_otherwise(user, scopes, expected):
    assert access.logged_in_user(user, {"scopes": scopes}).scopes == expected


def log_in(at, user, scopes):
    at.user, at.secrets = user, {"scopes": scopes}
    return at.run()


def test_who_logged_in_sees_what_was_granted_and_a_stranger_only_why_not(guarded, page):
    at = log_in(page("trends"), ANN, {"ann@example.com": "read"})
    assert not at.exception
    assert at.dataframe
    at = log_in(page("trends"), ANN, {"bob@example.com": "read"})
    assert not at.exception
    assert "does not have access" in at.error[0].value
    assert not at.dataframe


def test_a_login_is_offered_where_a_provider_is_configured(guarded, page, monkeypatch):
    asked = []
    monkeypatch.setattr(st, "login", lambda: asked.append(True))
    assert not any(button.label == "Log in" for button in page("trends").button)
    at = log_in(page("trends"), {"is_logged_in": False}, {})
    next(button for button in at.button if button.label == "Log in").click().run()
    assert asked


def test_the_dashboards_do_not_listen_to_others_without_tokens(use_home, tmp_path):
    use_home(tmp_path)
    done = CliRunner().invoke(app, ["dashboard", "--host", "0.0.0.0"])
    assert "EVALSVC_ALLOWED_HOSTS" in str(done.exception)


@pytest.mark.parametrize(("options", "named"), [([], False), (["--require-token"], True)])
def test_the_names_of_a_server_count_where_tokens_do_and_take_no_other_extra(
    options, named, use_home, tmp_path, monkeypatch
):
    token_store.create(use_home(tmp_path), "ann", [Scope.READ])
    started = []
    monkeypatch.setattr(os, "execv", lambda _, command: started.extend(command))
    monkeypatch.setenv("EVALSVC_ALLOWED_HOSTS", "Evals.example.com, other.example.com")
    monkeypatch.setenv("EVALSVC_DASHBOARD_TOKENS", "")  # as it was, at the end
    monkeypatch.delenv("EVALSVC_DASHBOARD_TOKENS")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    done = CliRunner().invoke(app, ["dashboard", "--host", "127.9.9.9", *options])
    assert done.exit_code == 0, done.exception
    assert {"localhost", "127.0.0.1", "::1", "127.9.9.9"} <= set(started)
    assert ("evals.example.com" in started) is named


def test_a_rating_is_kept_once_per_pair(use_home, tmp_path):
    database = use_home(tmp_path)
    fill(database, ["gan", "vae", "flow"], range(0, 1000, 1000))
    for left, right, outcome, times in ((1, 2, "left", 7), (2, 1, "left", 3), (2, 3, "tie", 2)):
        for _ in range(times):
            human_ratings.rate(database, "digits@1", Pair(left, right, 0), outcome, "ann")
    with database.read() as session:
        table = human_ratings.standings(session, "digits@1", {1: 1, 2: 2, 3: 3})
    by = {each.checkpoint: each for each in table}
    assert 147.19 < by[1].rating - by[2].rating < 200  # 7 wins to 3, where ties could have been and were not
    assert by[2].rating == pytest.approx(by[3].rating)
    assert {each.method for each in table} == {"votes as if independent; too few raters (1) and items (1) to redraw"}
    assert by[1].games == 10
    assert human_ratings.agreement(table, {1: 3.0, 2: 5.0, 3: 5.1}, "lower") > 0.8


def test_streamlit_and_its_server_log_in_the_one_format(monkeypatch, capsys):
    monkeypatch.setitem(LOGGING_CONFIG, "loggers", LOGGING_CONFIG["loggers"])
    with monkeypatch.context() as patch:
        patch.setattr(streamlit.logger, "setup_formatter", None)
        logs.setup()
        log_as_one()
        uvicorn.Config("none:none").configure_logging()
        for name in ("streamlit.web.test", "uvicorn.error"):
            streamlit.logger.get_logger(name).error("page: x\n%s forged", "2026")
    streamlit.logger.update_formatter()
    told = capsys.readouterr().err.splitlines()
    assert [line.partition("Z ")[2] for line in told] == [
        "ERROR streamlit.web.test: page: x\\n2026 forged",
        "ERROR uvicorn.error: page: x\\n2026 forged",
    ]
