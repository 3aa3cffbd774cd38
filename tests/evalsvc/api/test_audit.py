"""Every write over HTTP leaves a row with its actor, in its own transaction; what is refused leaves few."""

import logging

import pytest
from sqlalchemy.exc import OperationalError

from evalsvc.core import http_client
from evalsvc.core.observability import logs
from evalsvc.evaluation.lifecycle import Submission
from evalsvc.store import audit, tables
from evalsvc.store.tables import AuditEntry, Status
from tests.evalsvc.gates.store import add_checkpoint, add_scores

API = "/api/v1"
POLICY = {"version": 1, "suite": "digits@1", "metrics": {"recall": {"min": 0.1}}, "defaults": {"min_samples": 1}}
WRITES = {
    ("POST", "/evaluations"): ("evaluation.submit", {"json": {"checkpoint": "flow@9", "suite": "digits@1"}}),
    ("POST", "/evaluations/{id}/cancel"): ("evaluation.cancel", {}),
    ("POST", "/evaluations/{id}/retry"): ("evaluation.retry", {}),
    ("POST", "/gates"): ("gate.decide", {"json": {"policy": POLICY, "candidate": "flow@9"}}),
    ("PUT", "/aliases/{name}"): ("alias.move", {"json": {"checkpoint": "flow@9"}}),
    ("PUT", "/aliases/{name}/protection"): ("alias.protect", {"json": {"policy": POLICY}}),
    ("DELETE", "/aliases/{name}/protection"): ("alias.unprotect", {}),
    ("POST", "/uploads"): ("upload.create", {"params": {"name": "step_1.safetensors"}, "content": b"weights"}),
    ("POST", "/tokens"): ("token.create", {"json": {"name": "ci", "scopes": ["read"]}}),
    ("DELETE", "/tokens/{id}"): ("token.revoke", {}),
    ("POST", "/webhooks"): (
        "webhook.create",
        {"json": {"url": "https://a.test/hush", "events": ["gate.decided"]}},
    ),
    ("POST", "/webhooks/{id}/secret"): ("webhook.secret", {}),
    ("DELETE", "/webhooks/{id}"): ("webhook.remove", {}),
}
"""What each operation records, and a request that it grants, in this order."""


def rows(server, **filters):
    with server.database.read() as session:
        return session.scalars(audit.entries(**filters).order_by(AuditEntry.id)).all()


@pytest.fixture
def keyed(monkeypatch):
    """A server whose webhooks have secrets that can be renewed."""
    monkeypatch.setenv("EVALSVC_SECRET_KEY", "k" * 43)


@pytest.fixture
def waiting(server, filled, monkeypatch):
    """An evaluation that can be cancelled; a back room that submits without opening a file."""
    with server.database.write() as session:
        row = add_scores(session, add_checkpoint(session, "gan", 1), {}, seed=7, status=Status.QUEUED)

    async def submit(asked, path):
        with server.database.write() as session:
            audit.record(session, audit.Action.EVALUATION_SUBMIT, f"evaluation {row.id}")
        return Submission(row.id, False, Status.QUEUED)

    monkeypatch.setattr(server.task_processes, "submit", submit)
    monkeypatch.setattr(http_client, "resolve", lambda host, port: ["1.1.1.1"])
    return row.id


def test_every_write_of_the_api_is_in_the_audit_with_its_actor(keyed, app, client, server, waiting):
    described = {
        (method.upper(), path.removeprefix(API))
        for path, operations in app.openapi()["paths"].items()
        for method in operations
        if method not in ("get", "head")
    }
    assert described == WRITES.keys(), "every operation that writes is tried here"
    admin = client("admin")
    with server.database.read() as session:
        token = session.query(tables.Token).order_by(tables.Token.id.desc()).first()
    ids = {"evaluations": waiting, "tokens": token.id + 1, "webhooks": 1}
    for number, ((method, path), (action, request)) in enumerate(WRITES.items()):
        url = path.replace("{name}", "best").replace("{id}", str(ids.get(path.split("/")[1])))
        before = rows(server)
        answer = admin.request(method, API + url, headers={"x-request-id": f"request-{number}"}, **request)
        assert answer.status_code < 300, (method, path, answer.text)
        assert answer.headers["x-request-id"] == f"request-{number}"
        [row] = rows(server)[len(before) :]
        assert (row.action, row.outcome) == (action, "done"), (method, path)
        assert (row.actor_kind, row.actor, row.token_id) == ("token", "test", token.id)
        assert (row.address, row.request) == ("testclient", f"request-{number}")
    assert "hush" not in str([row.detail for row in rows(server)]), "addresses of webhooks hold secrets"
    assert not any("evs_" in str(row.detail) for row in rows(server))


def test_gates_name_who_asked_for_them(client, server, filled):
    made = client("submit").post(f"{API}/gates", json={"policy": POLICY, "candidate": "flow@9"}).json()
    assert made["by"] == "test"
    [row] = rows(server, subject=f"gate {made['id']}")
    assert (row.actor, row.detail["status"], row.detail["candidate"]) == ("test", made["status"], "flow@9")


def test_a_write_whose_row_cannot_be_kept_does_not_happen(client, server, filled, monkeypatch):
    def full(*_, **__):
        raise OperationalError("INSERT", {}, Exception("disk is full"))

    admin = client("admin")
    monkeypatch.setattr(audit, "record", full)
    assert admin.post(f"{API}/tokens", json={"name": "ci", "scopes": ["admin"]}).status_code == 503
    assert admin.put(f"{API}/aliases/best", json={"checkpoint": "flow@9"}).status_code == 503
    with server.database.read() as session:
        assert session.query(tables.Token).count() == 1
        assert session.get(tables.Alias, "best") is None


def test_what_a_token_was_refused_is_recorded_a_few_times(client, server, filled):
    submitter = client("submit")
    for _ in range(30):
        assert submitter.put(f"{API}/aliases/best", json={"checkpoint": "flow@9"}).status_code == 403
    assert submitter.get(f"{API}/tokens").status_code == 403
    assert submitter.post(f"{API}/evaluations/{filled.evaluation}/retry").status_code == 409
    refused = [row for row in rows(server) if row.outcome == "refused"]
    assert [row.action for row in refused] == ["alias.move"] * 10 + ["read", "evaluation.retry"]
    assert refused[0].subject == "alias best"
    assert refused[0].detail == {
        "reason": "setting an alias without a gate requires scope admin, which token 'test' does not have"
    }
    assert (refused[-2].subject, refused[-1].subject) == ("/api/v1/tokens", f"evaluation {filled.evaluation}")


def test_strangers_leave_no_rows(client, server, filled):
    before = len(rows(server))
    stranger = client()
    for _ in range(3):
        assert stranger.post(f"{API}/tokens", headers={"authorization": "Bearer evs_guess"}).status_code == 401
        assert stranger.get(f"{API}/nothing").status_code == 404
    assert len(rows(server)) == before


def test_admins_read_the_audit_by_what_they_ask_for(client, server, filled):
    admin = client("admin")
    for name in ("ci", "nightly"):
        admin.post(f"{API}/tokens", json={"name": name, "scopes": ["read"]})
    admin.put(f"{API}/aliases/best", json={"checkpoint": "flow@9"})
    found = admin.get(f"{API}/audit", params={"actor": "test"}).json()["items"]
    assert [each["action"] for each in found] == ["alias.move", "token.create", "token.create"]
    assert found[0]["detail"]["to"] == "flow@9"
    for params, expected in [
        ({"action": "token", "actor": "test"}, 2),
        ({"action": "token.create", "actor": "test"}, 2),
        ({"subject": "alias best"}, 1),
        ({"subject": "alias"}, 1),
        ({"subject": "ali"}, 0),
        ({"since": found[0]["at"]}, 1),
        ({"until": found[2]["at"], "actor": "test"}, 0),
        ({"actor": "nobody"}, 0),
    ]:
        assert len(admin.get(f"{API}/audit", params=params).json()["items"]) == expected, params
    page = admin.get(f"{API}/audit", params={"limit": 2}).json()
    assert len(page["items"]) == 2
    assert admin.get(f"{API}/audit", params={"limit": 2, "cursor": page["next"]}).json()["items"][0] == found[2]
    for since in (
        "-147",
        "1e9",
        "yesterday",
        "2026-11-28T15:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-01:00",
    ):
        assert admin.get(f"{API}/audit", params={"since": since}).status_code == 422, since
    assert client("submit").get(f"{API}/audit").status_code == 403


def test_an_id_of_a_request_is_kept_where_it_is_well_formed(client):
    forms = {"abc-DEF_1.2": True, "short": False, "x" * 65: False, "a b c d e f": False, "{{7*7}}1": False}
    for given, kept in forms.items():
        answered = client().get("/healthz", headers={"x-request-id": given}).headers["x-request-id"]
        assert (answered == given) is kept, given
        assert 8 <= len(answered) <= 64


def test_the_log_tells_each_request_and_few_of_a_strangers(client, filled, caplog):
    caplog.set_level(logging.INFO)
    client("read").get(f"{API}/models?token=hush")
    client("read").get(f"{API}/models/%0A2026-11-28%20forged")
    stranger = client()
    for _ in range(300):
        stranger.get(f"{API}/models", headers={"authorization": "Bearer evs_guess"})
    stranger.get("/healthz")
    told = [record for record in caplog.records if record.name == "evalsvc.access"]
    assert len(told) == 2 + 19
    facts = told[0].evalsvc
    assert (facts["method"], facts["route"], facts["status"], facts["token"]) == ("GET", f"{API}/models", 200, "test")
    assert "hush" not in told[0].getMessage()
    assert " 404 " in told[1].getMessage()
    assert "\n" not in logs._FORMATTERS["text"]().format(told[1])
