"""Webhooks: signed, sent until they arrive, never to where they must not go. Receivers are real servers."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import socket
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event, Thread

import pytest
from sqlalchemy.orm import Session

from evalsvc import lifecycle, outbox, webhooks
from evalsvc.errors import InputError
from evalsvc.gates.gate import run_gate
from evalsvc.store.tables import Delivery, Evaluation, Gate, Webhook, now

from ..gates.store import DIGITS, add_checkpoint, add_scores, gate_policy, point
from ..test_lifecycle import spec

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


def deliver(database, private_hosts=()):
    async def once():
        async with webhooks.http_client() as client:
            owed = webhooks.waiting(database)
            return sum([await webhooks.deliver(database, client, webhook, private_hosts) for webhook in owed])

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
    hook = webhooks.add(database, receiver.url, ["gate.decided"], LOCAL)
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


def test_what_does_not_arrive_comes_again_later_under_the_same_id(database, receiver):
    webhooks.add(database, receiver.url, ["gate.decided"], LOCAL)
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
    webhooks.add(database, receiver.url, ["gate.decided"], LOCAL)
    owe(database)
    receiver.answer = 302
    deliver(database, LOCAL)
    assert [path for path, _, _ in receiver.seen] == ["/hook"]
    assert state(database)[1].last_error == "answered 302"


def test_a_message_that_never_arrives_is_dropped_in_the_end(database, receiver, monkeypatch):
    monkeypatch.setattr(webhooks, "GIVE_UP_AFTER", 3)
    webhooks.add(database, receiver.url, ["gate.decided"], LOCAL)
    owe(database)
    receiver.answer = 500
    for _ in range(5):
        make_due(database)
        deliver(database, LOCAL)
    assert len(receiver.seen) == 3
    assert state(database)[0] == []


def test_two_senders_send_a_message_once(database, receiver):
    webhooks.add(database, receiver.url, ["gate.decided"], LOCAL)
    owe(database)
    (webhook,) = webhooks.waiting(database)
    assert webhooks._take(database, webhook)
    assert not webhooks._take(database, webhook)


def test_the_first_that_does_not_arrive_ends_a_round(database, receiver):
    webhooks.add(database, receiver.url, ["gate.decided"], LOCAL)
    for _ in range(3):
        owe(database)
    receiver.answer = 500
    assert deliver(database, LOCAL) == 1
    receiver.answer = 200
    assert deliver(database, LOCAL) == 2


def test_a_receiver_that_answers_byte_by_byte_is_given_up_and_holds_up_nobody_else(database, receiver, monkeypatch):
    monkeypatch.setattr(webhooks, "EVERY", 0.05)
    over = Event()

    def drip(listening):
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not over.wait(0.1):
                connection.sendall(b"x: y\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=drip, args=(listening,), daemon=True).start()
        webhooks.add(database, f"http://127.0.0.1:{listening.getsockname()[1]}/", ["gate.decided"], LOCAL)
        webhooks.add(database, receiver.url, ["gate.decided"], LOCAL)
        asyncio.run(others_are_served(database, receiver))
        monkeypatch.setattr(webhooks, "TIMEOUT", 0.5)
        make_due(database)
        assert deliver(database, LOCAL) == 1
    over.set()
    with database.read() as session:
        slow, other = session.query(Webhook).order_by(Webhook.id)
        assert (slow.last_error, other.last_error) == ("no answer within 0.5 s", None)


async def others_are_served(database, receiver):
    """Three messages, each owed when the one before has arrived, while the slow one is still at its first."""
    sender = asyncio.create_task(webhooks.keep_delivering(database, LOCAL))
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


PRIVATE = ["127.0.0.1", "10.1.2.3", "192.168.0.9", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"]
PRIVATE += ["224.0.0.1", "::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "::"]


def test_no_private_address_is_called(server, monkeypatch):
    for address in PRIVATE:
        monkeypatch.setattr(webhooks, "resolve", lambda *_, found=address: ["93.184.216.34", found])
        with pytest.raises(InputError, match=r"no public address: allow the host in EVALSVC_WEBHOOK_PRIVATE_HOSTS"):
            webhooks.add(server.database, "https://hooks.example.com/x", ["gate.decided"])


def test_a_name_that_moves_to_a_private_address_leads_nowhere(database, receiver, monkeypatch):
    monkeypatch.setattr(webhooks, "resolve", lambda *_: ["93.184.216.34"])
    port = receiver.url.split(":")[2].split("/")[0]
    webhooks.add(database, f"https://hooks.example.com:{port}/x", ["gate.decided"])
    owe(database)
    monkeypatch.setattr(webhooks, "resolve", lambda *_: ["127.0.0.1"])
    deliver(database)
    assert "no public address" in state(database)[1].last_error
    assert receiver.seen == []


NO_ADDRESSES = ["http://hooks.example.com/x", "ftp://hooks.example.com/x", "https://", "https://[::1/x", "", "x"]
NO_ADDRESSES += ["https://user:secret@hooks.example.com/x", "https://hooks.example.com/x#y", "javascript:alert(1)"]


def test_only_plain_https_addresses_are_taken(server):
    for url in NO_ADDRESSES:
        with pytest.raises(InputError, match="webhook"):
            webhooks.add(server.database, url, ["gate.decided"])


def test_every_verdict_is_told_with_its_candidate(database, receiver):
    webhooks.add(database, receiver.url, ["gate.decided"], LOCAL)
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
    webhooks.add(database, receiver.url, ["gate.decided", "evaluation.ended"], LOCAL)

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
    webhooks.add(database, receiver.url, ["evaluation.ended"], LOCAL)
    for number, end in enumerate(("cancel", "fail")):
        made = lifecycle.submit(database, spec(str(number) * 64))
        attempt = lifecycle.Attempt(made.id, 1)
        lifecycle.start(database, attempt)
        if end == "cancel":
            lifecycle.cancel(database, made.id)
        else:
            lifecycle.fail(database, attempt, lifecycle.Failure.MODEL, "NaN")
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
