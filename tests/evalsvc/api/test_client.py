"""The client against a server that really listens: from a checkpoint to an evaluation, a verdict, and back."""

import os
import sys
import time

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

import evalsvc
from evalsvc.api import schemas
from evalsvc.api.client import Client, ClientError
from evalsvc.api.server import task_process_main, token_store
from evalsvc.api.server.state import ServerSettings
from evalsvc.builtin.demo import WEIGHTS
from evalsvc.core.errors import StorageError
from evalsvc.evaluation import attempts
from evalsvc.store import audit, tables
from evalsvc.store.tables import Failure, Status
from tests.evalsvc.gates.store import gate_policy

VAE = WEIGHTS / "vae" / "step_0.safetensors"


@pytest.fixture
def client(server, live, token, roots):
    object.__setattr__(server, "settings", ServerSettings(checkpoint_roots=(WEIGHTS, roots)))
    with Client(live, token) as opened:
        yield opened


def test_a_checkpoint_is_submitted_watched_cancelled_tried_again_and_judged(client, server, tmp_path, roots):
    run = client.submit(path=VAE, generator="vae", suite="digits@1", priority=3)
    assert (run.model, run.step, run.suite, run.status, run.priority) == ("vae", 0, "digits@1", "queued", 3)
    assert run.stages["samples"] == schemas.Stage(done=0, due=2000)
    assert client.submit(path=VAE, generator="vae", suite="digits").id == run.id
    assert client.submit(checkpoint="vae@0", suite="digits@1").id == run.id
    assert client.submit(checkpoint="vae", suite="digits@1", seed=7).id != run.id
    assert [each.id for each in client.evaluations("queued")] == [run.id + 1, run.id]

    sent = client.upload(VAE)
    assert client.submit(upload=sent.digest, model="vae", generator="vae", suite="digits@1").id == run.id

    assert client.cancel(run.id).status == "cancelled"
    assert client.retry(run.id).status == "queued"
    assert client.evaluation(run.id).by == "test"
    with server.database.read() as session:
        told = session.scalars(audit.entries(subject=f"evaluation {run.id}")).all()
    assert [f"{row.action} {row.outcome}" for row in told] == [
        "evaluation.submit done",  # in a process of its own, which knows for whom it works
        "evaluation.submit unchanged",
        "evaluation.cancel done",
        "evaluation.retry done",
    ]
    assert {(row.actor, row.address, len(row.request)) for row in told} == {("test", "127.0.0.1", 32)}

    attempt, seen = attempts.Attempt(run.id, 2), []
    for each in client.events(run.id):
        seen.append(each.status)
        if each.status == "queued":
            attempts.start(server.database, attempt)
        elif not each.ended:
            attempts.fail(server.database, attempt, Failure.OUT_OF_MEMORY, "no memory is left")
    assert seen == ["queued", "running", "failed"]
    assert client.wait(run.id).failure == "out_of_memory"

    with pytest.raises(ClientError, match=f"evaluation {run.id + 1} is still queued after 0 seconds"):
        client.wait(run.id + 1, timeout=0)

    policy = gate_policy(baseline=None, metrics={"frechet_distance": {"max": 40}}).model_dump(mode="json")
    gate = client.gate(policy, "vae@0")
    assert (gate.status, gate.exit_code, gate.candidate.model) == ("ERROR", 1, "vae")
    assert client.gate(policy, "nobody@1").status == "MISSING"
    assert [each.status for each in client.gates()] == ["MISSING", "ERROR"]
    with pytest.raises(ClientError, match="unknown key"):
        client.gate("version: 1\nsuite: digits@1\nmetrics: {recall: {min: 0.5}}\nx: 1")
    with pytest.raises(ClientError, match="by a file"):
        client.gate("version: 1\nsuite: /etc/x.yaml\nmetrics: {recall: {min: 0.5}}")

    served = tmp_path / "x_1.jsonl"
    served.write_text('{"url": "http://127.0.0.1:9/", "model": "m", "key_variable": "AWS_SECRET_ACCESS_KEY"}')
    thief = {"upload": client.upload(served).digest, "model": "thief", "suite": "text-tiny@1"}
    os.mkfifo(roots / "pipe_1.pt")
    (roots / "zero_1.pt").symlink_to("/dev/zero")
    for asked, status, reason in [
        ({"path": str(roots / "pipe_1.pt"), "generator": "vae", "suite": "digits@1"}, 422, "is a named pipe"),
        ({"path": str(roots / "zero_1.pt"), "generator": "vae", "suite": "digits@1"}, 422, "EVALSVC_CHECKPOINT_ROOTS"),
        (thief | {"generator": "openai-compatible"}, 403, "name an 'endpoint' that the operator lists"),
        ({"endpoint": "llama", "suite": "text-tiny@1"}, 422, "there is no endpoint 'llama'"),
        ({"path": "/etc/passwd", "generator": "vae", "suite": "digits@1"}, 422, "EVALSVC_CHECKPOINT_ROOTS"),
        ({"path": VAE, "generator": "vae", "suite": "nothing@1"}, 422, "there is no suite"),
        ({"path": VAE, "generator": "nothing", "suite": "digits@1"}, 422, "there is no generator 'nothing'"),
        ({"path": VAE, "generator": "flow", "suite": "digits@1"}, 422, "does not fit the model"),
        ({"checkpoint": "nobody", "suite": "digits@1"}, 422, "there is no checkpoint 'nobody'"),
        ({"upload": "0" * 64, "model": "m", "generator": "vae", "suite": "digits@1"}, 422, "there is no upload"),
        ({"path": VAE, "generator": "vae", "suite": {"name": "mine"}}, 403, "requires scope admin"),
        ({"path": VAE, "suite": "digits@1"}, 422, "generator is missing"),
        ({"suite": "digits@1"}, 422, "exactly one of path, upload, checkpoint and endpoint"),
        (
            {"path": VAE, "generator": "torch-module", "suite": "digits@1", "options": {"module": "os:system"}},
            403,
            "EVALSVC_TORCH_MODULES",
        ),
    ]:
        with pytest.raises(ClientError, match=reason) as caught:
            client.submit(**asked)
        assert caught.value.status == status


def test_a_process_that_died_between_two_tasks_costs_nothing_and_one_that_takes_too_long_its_task(client, server):
    recall = {"version": 1, "suite": "digits@1", "metrics": {"recall": {"min": 0.5}}}
    process = server.task_processes.deciding.processes[0]
    process.start()
    process._process.kill()
    process._process.wait()
    assert client.gate(recall, "flow").status == "MISSING"
    server.task_processes.deciding.seconds = 0.01
    with pytest.raises(ClientError, match=r"took more than 0.01 seconds and was stopped") as caught:
        client.gate(recall, "flow")
    assert caught.value.status == 503
    assert process.pid is None


def test_a_back_room_runs_nothing_of_the_servers_own_script(client, tmp_path, monkeypatch):
    script = tmp_path / "main.py"
    script.write_text("raise SystemExit(3)")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    decided = client.gate({"version": 1, "suite": "digits@1", "metrics": {"recall": {"min": 0.5}}}, "flow")
    assert decided.status == "MISSING"


def test_results_are_typed_and_pages_are_followed(client, filled, monkeypatch):
    assert client.about().scopes == ["read", "submit"]
    assert [model.last_step for model in client.models()] == [9]
    assert client.checkpoint("production").step == 1
    assert {suite.id for suite in client.suites()} >= {"digits@1"}
    assert [score.value for score in client.scores(label="recall")] == [0.8, 0.7]
    assert client.leaderboard(which="all")[0].entries[0].step == 9
    assert client.compare("flow@1", "flow@9").differences[0].verdict == "better"
    assert client.artifact(filled.artifact) == b"\x01pixels"
    assert client.promote("production", "flow@9", gate=filled.gate).checkpoint.step == 9
    assert [alias.name for alias in client.aliases()] == ["production"]
    assert client.evaluation(filled.evaluation).scores[0].value == 12.0
    assert list(client.workers()) == list(client.references()) == []
    given = client._http.request
    monkeypatch.setattr(
        client._http, "request", lambda method, path, params, **more: given(method, path, params=params | {"limit": 1})
    )
    assert [checkpoint.step for checkpoint in client.checkpoints()] == [9, 1]


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)


def answering(*answers):
    """A client whose server gives these answers in turn, and the requests that it saw."""
    seen, left = [], list(answers)

    def handle(request):
        seen.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Client("https://evals.example.com", "evs_x", transport=httpx.MockTransport(handle)), seen


OK = httpx.Response(200, json={"version": "1", "token": "t", "scopes": ["read"], "a newer field": 1})
AWAY = httpx.Response(503, json={"type": "x", "title": "x", "status": 503, "detail": "the database does not respond"})


@pytest.mark.parametrize("trouble", [AWAY, httpx.Response(502), httpx.ConnectError("refused")])
def test_what_may_be_sent_again_is(no_pause, trouble):
    client, seen = answering(trouble, trouble, OK)
    assert client.about().token == "t"
    assert len(seen) == 3


def test_a_server_that_stays_away_is_one_clear_error(no_pause):
    client, seen = answering(*[httpx.ConnectError("connection refused")] * 9)
    with pytest.raises(ClientError, match=r"cannot reach https://evals.example.com \(connection ref") as caught:
        client.about()
    assert (caught.value.status, len(seen)) == (0, 4)
    client, _ = answering(*[AWAY] * 9)
    with pytest.raises(ClientError, match="the database does not respond") as caught:
        client.about()
    assert (caught.value.status, caught.value.problem.title) == (503, "x")


def test_a_gate_is_not_sent_twice(no_pause):
    client, seen = answering(AWAY, AWAY)
    with pytest.raises(ClientError):
        client.gate({})
    assert len(seen) == 1


def test_a_token_never_follows_a_redirect():
    client, seen = answering(httpx.Response(302, headers={"location": "https://evil.example/"}))
    with pytest.raises(ClientError, match="answered 302"):
        client.about()
    assert len(seen) == 1


def test_an_answer_that_is_no_evalsvcs_is_said_so():
    client, _ = answering(httpx.Response(200, html="<h1>welcome</h1>"))
    with pytest.raises(ClientError, match="unexpected response from"):
        client.about()


def test_server_and_token_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("EVALSVC_SERVER", raising=False)
    monkeypatch.delenv("EVALSVC_TOKEN", raising=False)
    with pytest.raises(ClientError, match="set EVALSVC_SERVER"):
        evalsvc.Client()
    monkeypatch.setenv("EVALSVC_SERVER", "https://evals.example.com/")
    with pytest.raises(ClientError, match="set EVALSVC_TOKEN"):
        evalsvc.Client()
    monkeypatch.setenv("EVALSVC_TOKEN", "evs_x")
    assert evalsvc.Client().server == "https://evals.example.com"


def test_a_status_that_the_store_knows_is_one_that_travels():
    known = schemas.Evaluation.model_fields["status"].annotation.__args__
    assert set(known) == set(Status)
    assert set(schemas.Worker.model_fields["status"].annotation.__args__) == set(tables.WorkerStatus)
    assert set(schemas.ScopeName.__args__) == set(tables.Scope)


class Streams(httpx.BaseTransport):
    """A server whose streams of events break off."""

    def __init__(self, *streams):
        self.streams = iter(streams)

    def handle_request(self, request):
        return httpx.Response(200, text=next(self.streams), headers={"content-type": "text/event-stream"})


def test_a_stream_that_breaks_off_is_taken_up_again_for_as_long_as_the_server_is_there(monkeypatch):
    monkeypatch.setattr(evalsvc.api.client.time, "sleep", lambda _: None)
    at = dict.fromkeys(("attempt", "priority"), 1) | {"id": 1, "model": "m", "step": 1, "suite": "s@1", "failure": None}
    at |= {"error": None, "requested_at": "2026-01-01T00:00:00Z", "started_at": None, "finished_at": None, "stages": {}}
    runs, done = (
        f"data:{schemas.Evaluation(**at, status=status, ended=ended, fraction=0).model_dump_json()}\n\n"
        for status, ended in (("running", False), ("succeeded", True))
    )
    with Client("http://x", "t", transport=Streams(*[runs] * 9, "", "", done)) as client:
        assert [each.status for each in client.events(1)] == ["running"] * 9 + ["succeeded"]
    with (
        Client("http://x", "t", transport=Streams(runs, *[""] * 9)) as client,
        pytest.raises(ClientError, match="the event stream ended before the evaluation"),
    ):
        list(client.events(1))


def test_a_stream_ends_with_its_token(client, server):
    run = client.submit(path=VAE, generator="vae", suite="digits@1")
    events = client.events(run.id)
    assert next(events).status == "queued"
    with server.database.read() as session:
        (token,) = session.scalars(select(tables.Token.id))
    token_store.revoke(server.database, token)
    with pytest.raises(ClientError, match="unknown, revoked or expired"):
        next(events)


def test_a_back_room_without_a_database_says_that_it_may_be_tried_again(monkeypatch):
    class TaskHandlers:
        def __init__(self, _):
            pass

        def submit(self):
            raise OperationalError("SELECT secret", {}, ConnectionError("it is restarted"))

    class Pipe:
        asked, answers = [("submit", (), audit.current())], []

        def recv(self):
            if not self.asked:
                raise EOFError
            return self.asked.pop()

        send = answers.append

    monkeypatch.setattr("evalsvc.api.server.task_handlers.TaskHandlers", TaskHandlers)
    task_process_main.work(Pipe(), ())
    ((error, _),) = Pipe.answers
    assert isinstance(error, StorageError)
    assert "secret" not in str(error)
