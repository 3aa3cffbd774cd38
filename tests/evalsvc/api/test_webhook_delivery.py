"""Webhooks: signed, sent until they arrive, never to where they must not go. Receivers are real servers."""

import asyncio
import base64
import hashlib
import hmac
import json
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.orm import Session

from evalsvc.api.server import webhook_delivery
from evalsvc.cli import doctor_checks
from evalsvc.core import http_client
from evalsvc.core.errors import InputError
from evalsvc.core.secret_keys import NO_KEYS, SecretKeys
from evalsvc.core.settings import Settings
from evalsvc.evaluation import attempts, lifecycle
from evalsvc.gates.runner import run_gate
from evalsvc.store import outbox
from evalsvc.store.session import Database
from evalsvc.store.tables import Delivery, Evaluation, Failure, Gate, Webhook, now
from tests.evalsvc.core.test_http_client import INSIDE, MALFORMED
from tests.evalsvc.dripping_server import dripping_server
from tests.evalsvc.evaluation.test_lifecycle import spec
from tests.evalsvc.gates.store import DIGITS, add_checkpoint, add_scores, gate_policy, point

LOCAL = ("127.0.0.1",)


class Receiver:
    """Keeps what it is sent, and answers as it is told."""

    def __init__(self):
        self.answer, self.seen = 200, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.seen.append((self.path, dict(self.headers), self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(outer.answer)
                self.send_header("location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        # It looks this often for its end.
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


def deliver(database, private_hosts=(), keys=NO_KEYS):
    async def once():
        owed = webhook_delivery.waiting(database)
        return sum([await webhook_delivery.deliver(database, webhook, private_hosts, keys) for webhook in owed])

    return asyncio.run(once())


def owe(database, event="gate.decided", body=None):
    with database.write() as session:
        outbox._owe(session, event, body or {"gate": 1})


def state(database):
    with database.read() as session:
        return list(session.query(Delivery)), session.query(Webhook).one()


def make_due(database):
    with database.write() as session:
        for each in session.query(Delivery):
            each.due_at = now() - timedelta(seconds=1)


def test_a_message_is_signed_over_id_time_and_body(database, receiver):
    hook = webhook_delivery.add(database, receiver.url, ["gate.decided"], LOCAL)
    owe(database)
    owe(database, "evaluation.ended")
    assert deliver(database, LOCAL) == 1
    ((path, headers, body),) = receiver.seen
    assert (path, json.loads(body)["type"], json.loads(body)["data"]) == ("/hook", "gate.decided", {"gate": 1})
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(hook.secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert len(key) == 32
    assert state(database)[0] == []
    assert deliver(database, LOCAL) == 0


OLD, NEW = "o" * 32, "n" * 32


def signed_by(message, secret):
    """Whether a receiver that knows this secret takes a message for ours, by the specification."""
    _, headers, body = message
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"
    return expected in headers["webhook-signature"].split(" ")


def test_under_a_key_nothing_that_signs_is_stored_and_two_keys_rotate(database, receiver):
    old, both, new = (SecretKeys.parse(text) for text in (OLD, f"{NEW}, {OLD}", NEW))
    hook = webhook_delivery.add(database, receiver.url, ["gate.decided"], LOCAL, old)
    (first,) = webhook_delivery.signing_secrets(hook, old)
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32
    with database.read() as session:
        held = str(session.execute(text("SELECT * FROM webhooks")).all())
    assert not any(part in held for part in (first, first.removeprefix("whsec_"), OLD, "whsec_"))

    owe(database)
    assert deliver(database, LOCAL, both) == 1
    second = webhook_delivery.signing_secrets(webhook_delivery.renew(database, hook.id, both), both)[0]
    owe(database)
    assert deliver(database, LOCAL, both) == 1
    owe(database)
    assert deliver(database, LOCAL, new) == 1
    assert second != first
    assert [(signed_by(each, first), signed_by(each, second)) for each in receiver.seen] == [
        (True, True),
        (True, True),
        (False, True),
    ]


def test_a_message_whose_key_is_missing_waits_and_is_never_sent_unsigned(database, receiver):
    webhook_delivery.add(database, receiver.url, ["gate.decided"], LOCAL, SecretKeys.parse(OLD))
    owe(database)
    for keys in (NO_KEYS, SecretKeys.parse(NEW)):
        deliver(database, LOCAL, keys)
        make_due(database)
    (waiting,), hook = state(database)
    assert (receiver.seen, waiting.attempts) == ([], 2)
    assert hook.last_error == f"EVALSVC_SECRET_KEY lacks the key of webhook {hook.id}: " + (
        "add it after the newest one"
    )
    assert deliver(database, LOCAL, SecretKeys.parse(f"{NEW},{OLD}")) == 1
    assert len(receiver.seen) == 1


def test_a_secret_of_before_goes_on_and_the_doctor_names_it(home, receiver, monkeypatch):
    database = Database(Settings().database)
    keys = SecretKeys.parse(f"{NEW},{OLD}")
    before = webhook_delivery.add(database, receiver.url, ["gate.decided"], LOCAL)
    owe(database)
    deliver(database, LOCAL, keys)
    assert signed_by(receiver.seen[0], before.secret)
    with pytest.raises(InputError, match="is not derived from EVALSVC_SECRET_KEY: create another webhook"):
        webhook_delivery.renew(database, before.id, keys)
    webhook_delivery.add(database, receiver.url, ["gate.decided"], LOCAL, SecretKeys.parse(OLD))
    webhook_delivery.add(database, receiver.url, ["gate.decided"], LOCAL, SecretKeys.parse("x" * 32))

    def found(**settings):
        return {
            each.thing: each.detail for each in doctor_checks._store(Settings(**settings)) if "webhook" in each.thing
        }

    assert found() == {
        "webhooks without key": "EVALSVC_SECRET_KEY lacks the key of webhooks 2, 3: add it to deliver their messages",
        "webhook secrets": "the database contains the secrets of webhook 1: set EVALSVC_SECRET_KEY "
        "and create them again",
    }
    told = found(secret_key=SecretStr(f"{NEW},{OLD}"))
    assert "webhook 3" in told["webhooks without key"]
    assert told["webhook secrets"].endswith("webhook 1: create them again and delete these")
    assert told["webhook keys"].startswith("receivers of webhook 2 may still use older secrets")


def test_the_secret_under_the_newest_key_is_shown_to_admins(home, roots, client, monkeypatch, app, server):
    monkeypatch.setattr(http_client, "resolve", lambda host, port: ["1.1.1.1"])
    object.__setattr__(server, "keys", SecretKeys.parse(OLD))
    admin, asked = client("admin"), {"url": "https://hooks.example.com/x", "events": ["gate.decided"]}
    made = admin.post("/api/v1/webhooks", json=asked).json()
    assert admin.post(f"/api/v1/webhooks/{made['id']}/secret").json()["secret"] == made["secret"]
    object.__setattr__(server, "keys", SecretKeys.parse(f"{NEW},{OLD}"))
    renewed = admin.post(f"/api/v1/webhooks/{made['id']}/secret").json()
    assert renewed["secret"] != made["secret"]
    assert "secret" not in admin.get("/api/v1/webhooks").text
    assert admin.post("/api/v1/webhooks/999/secret").status_code == 404
    assert client("submit").post(f"/api/v1/webhooks/{made['id']}/secret").status_code == 403


@pytest.mark.parametrize("value", ["short", f"{NEW},short", f"{NEW},", ","])
def test_a_key_that_is_too_short_is_an_error_that_does_not_show_it(monkeypatch, value):
    monkeypatch.setenv("EVALSVC_SECRET_KEY", value)
    with pytest.raises(
        InputError, match="^EVALSVC_SECRET_KEY: each key needs at least 32 characters: make one"
    ) as told:
        Settings()
    assert "short'" not in str(told.value)
    assert NEW not in str(told.value) + repr(SecretKeys.parse(NEW)) + repr(Settings(secret_key=SecretStr(NEW)))


def test_what_does_not_arrive_comes_again_later_under_the_same_id(database, receiver):
    webhook_delivery.add(database, receiver.url, ["gate.decided"], LOCAL)
    owe(database)
    receiver.answer = 500
    deliver(database, LOCAL)
    (waiting,), hook = state(database)
    assert (waiting.attempts, hook.last_error) == (1, "answered 500")
    assert waiting.due_at > now()
    assert hook.failing_since
    assert deliver(database, LOCAL) == 0
    make_due(database)
    receiver.answer = 204
    assert deliver(database, LOCAL) == 1
    left, hook = state(database)
    assert (left, hook.last_error, hook.failing_since) == ([], None, None)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.seen}) == 1


def test_a_redirect_is_a_failure_and_is_not_followed(database, receiver):
    webhook_delivery.add(database, receiver.url, ["gate.decided"], LOCAL)
    owe(database)
    receiver.answer = 302
    deliver(database, LOCAL)
    assert [path for path, _, _ in receiver.seen] == ["/hook"]
    assert state(database)[1].last_error == "answered 302"


def test_a_message_that_never_arrives_is_dropped_in_the_end(database, receiver, monkeypatch):
    monkeypatch.setattr(webhook_delivery, "GIVE_UP_AFTER", 3)
    webhook_delivery.add(database, receiver.url, ["gate.decided"], LOCAL)
    owe(database)
    receiver.answer = 500
    for _ in range(5):
        make_due(database)
        deliver(database, LOCAL)
    assert len(receiver.seen) == 3
    assert state(database)[0] == []


def test_two_senders_send_a_message_once(database, receiver):
    webhook_delivery.add(database, receiver.url, ["gate.decided"], LOCAL)
    owe(database)
    (webhook,) = webhook_delivery.waiting(database)
    assert webhook_delivery._take(database, webhook)
    assert not webhook_delivery._take(database, webhook)


def test_the_first_that_does_not_arrive_ends_a_round(database, receiver):
    webhook_delivery.add(database, receiver.url, ["gate.decided"], LOCAL)
    for _ in range(3):
        owe(database)
    receiver.answer = 500
    assert deliver(database, LOCAL) == 1
    receiver.answer = 200
    assert deliver(database, LOCAL) == 2


def test_a_receiver_that_answers_byte_by_byte_is_given_up_and_holds_up_nobody_else(database, receiver, monkeypatch):
    monkeypatch.setattr(webhook_delivery, "EVERY", 0.05)
    with dripping_server() as url:
        webhook_delivery.add(database, url, ["gate.decided"], LOCAL)
        webhook_delivery.add(database, receiver.url, ["gate.decided"], LOCAL)
        asyncio.run(others_are_served(database, receiver))
        monkeypatch.setattr(webhook_delivery, "TIMEOUT", 0.5)
        make_due(database)
        assert deliver(database, LOCAL) == 1
    with database.read() as session:
        slow, other = session.query(Webhook).order_by(Webhook.id)
        assert (slow.last_error, other.last_error) == ("timed out after 0.5 s", None)


async def others_are_served(database, receiver):
    """Three messages, each owed when the one before has arrived, while the slow one is still at its first."""
    sender = asyncio.create_task(webhook_delivery.keep_delivering(database, LOCAL))
    for number in range(3):
        owe(database)
        # Arrived, and known to have: what is cancelled in between is sent again.
        while len(receiver.seen) == number or len(owed(database)) == 2:
            assert not sender.done()
            await asyncio.sleep(0.01)
    sender.cancel()


def owed(database):
    """Webhooks that something is owed to."""
    with database.read() as session:
        return {each.webhook_id for each in session.query(Delivery)}


def test_no_webhook_goes_inside(server):
    for url in INSIDE + MALFORMED:
        with pytest.raises(InputError, match="webhook"):
            webhook_delivery.add(server.database, url, ["gate.decided"])


def test_a_name_that_moves_to_a_private_address_leads_nowhere(database, receiver, monkeypatch):
    monkeypatch.setattr(http_client, "resolve", lambda *_: ["93.184.216.34"])
    port = receiver.url.split(":")[2].split("/")[0]
    webhook_delivery.add(database, f"https://hooks.example.com:{port}/x", ["gate.decided"])
    owe(database)
    monkeypatch.setattr(http_client, "resolve", lambda *_: ["127.0.0.1"])
    deliver(database)
    assert "is not public" in state(database)[1].last_error
    assert receiver.seen == []


NO_ADDRESSES = ["http://hooks.example.com/x", "ftp://hooks.example.com/x", "https://", "https://[::1/x", "", "x"]
NO_ADDRESSES += ["https://user:secret@hooks.example.com/x", "https://hooks.example.com/x#y", "javascript:alert(1)"]


def test_only_plain_https_addresses_are_taken(server):
    for url in NO_ADDRESSES:
        with pytest.raises(InputError, match="webhook"):
            webhook_delivery.add(server.database, url, ["gate.decided"])


def test_every_verdict_is_told_with_its_candidate(database, receiver):
    webhook_delivery.add(database, receiver.url, ["gate.decided"], LOCAL)
    with database.write() as session:
        old, new = add_checkpoint(session, "flow", 1), add_checkpoint(session, "flow", 9)
        for checkpoint in (old, new):
            add_scores(session, checkpoint, {"frechet_distance": (16.0, 0.2)})
        point(session, "production", old)
    done = run_gate(gate_policy(), database, DIGITS)
    deliver(database, LOCAL)
    data = json.loads(receiver.seen[0][2])["data"]
    assert (data["gate"], data["status"], data["exit_code"]) == (done.id, "PASS", 0)
    assert (data["candidate"]["model"], data["candidate"]["step"]) == ("flow", 9)


def test_what_is_rolled_back_is_never_told(database, receiver):
    webhook_delivery.add(database, receiver.url, ["gate.decided", "evaluation.ended"], LOCAL)

    def fails(session: Session):
        add_scores(session, add_checkpoint(session, "flow", 1), {})
        outbox.evaluation_ended(session, session.query(Evaluation).one())
        raise RuntimeError

    with pytest.raises(RuntimeError), database.write() as session:
        fails(session)
    assert state(database)[0] == []
    with database.read() as session:
        assert session.query(Gate).count() == 0


def test_an_evaluation_that_ends_is_told_of(database, receiver):
    webhook_delivery.add(database, receiver.url, ["evaluation.ended"], LOCAL)
    for number, end in enumerate(("cancel", "fail")):
        made = lifecycle.submit(database, spec(str(number) * 64))
        attempt = attempts.Attempt(made.id, 1)
        attempts.start(database, attempt)
        if end == "cancel":
            lifecycle.cancel(database, made.id)
        else:
            attempts.fail(database, attempt, Failure.MODEL, "NaN")
    assert [deliver(database, LOCAL) for _ in range(2)] == [2, 0]
    told = [json.loads(body)["data"] for _, _, body in receiver.seen]
    assert [(each["status"], each["error"]) for each in told] == [("cancelled", None), ("failed", "NaN")]


def test_an_admin_adds_and_removes_webhooks_over_http(client, server, receiver):
    object.__setattr__(server, "settings", server.settings.model_copy(update={"webhook_private_hosts": LOCAL}))
    admin = client("admin")
    made = admin.post("/api/v1/webhooks", json={"url": receiver.url, "events": ["gate.decided"]})
    assert made.status_code == 201
    secret = made.json()["secret"]
    assert secret not in admin.get("/api/v1/webhooks").text
    owe(server.database)
    assert admin.delete(f"/api/v1/webhooks/{made.json()['id']}").status_code == 204
    assert admin.get("/api/v1/webhooks").json()["items"] == []
    refused = admin.post("/api/v1/webhooks", json={"url": "https://127.0.0.2/", "events": ["gate.decided"]})
    assert refused.status_code == 422
