"""``evalsvc --server URL``: the same answers as on the server's own machine, and the same exit codes."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from evalsvc.api.client import Client
from evalsvc.cli import main
from evalsvc.cli.remote import app as remote
from evalsvc.core.digests import digest_path


@pytest.fixture
def ask(live, token, filled, monkeypatch, capsys):
    """Run the command line in this process, against the server or, without one, its database; exit code and stdout."""
    monkeypatch.setenv("EVALSVC_TOKEN", token)

    def run(*arguments, server=live):
        before = ["--server", server] if server else []
        monkeypatch.setattr(sys, "argv", ["evalsvc", *before, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main.run()
        return ended.value.code, capsys.readouterr()

    return run


@pytest.mark.parametrize(
    "command", [["leaderboard", "--all"], ["ratings"], ["compare", "flow@1", "flow@9"], ["alias", "list"]]
)
def test_a_server_answers_as_its_database_does(ask, command):
    code, remotely = ask(*command, "--json")
    assert code == 0, remotely.err
    assert json.loads(remotely.out) == json.loads(ask(*command, "--json", server=None)[1].out)
    assert ask(*command)[1].out == ask(*command, server=None)[1].out


def test_every_reading_command_shows_something(ask):
    for command in (["models"], ["checkpoints"], ["status"], ["gate", "history"], ["alias", "list"]):
        code, seen = ask(*command)
        assert code == 0, seen.err
        assert "flow" in seen.out or "flow" in ask(*command, "--json")[1].out


def test_a_gate_ends_with_its_own_exit_code(ask, tmp_path, filled):
    policy = tmp_path / "gate.yaml"
    for limit, expected in ((40, 0), (1, 3)):
        policy.write_text(f"version: 1\nsuite: digits@1\nmetrics: {{frechet_distance: {{max: {limit}}}}}")
        code, seen = ask("gate", "run", policy, "--candidate", "flow@9")
        assert (code, "decided on 2000 samples" in seen.out) == (expected, True), seen
    assert ask("gate", "run", policy, "--candidate", "nobody")[0] == 5
    assert ask("gate", "run", tmp_path / "none.yaml")[0] == 2
    assert ask("alias", "set", "production", "flow@9", "--gate", filled.gate)[0] == 0
    assert ask("alias", "set", "production", "flow@1")[0] == 2


def test_waiting_ends_as_the_evaluations_did(ask, filled):
    assert ask("wait", filled.evaluation)[0] == 0
    code, seen = ask("wait", 99)
    assert (code, seen.err.strip()) == (2, "error: there is no evaluation 99")


def test_a_server_that_is_away_is_6_and_no_server_is_2(ask, monkeypatch):
    monkeypatch.setattr("evalsvc.api.client.time.sleep", lambda _: None)
    code, seen = ask("models", server="http://127.0.0.1:1")
    assert code == 6
    assert "cannot reach http://127.0.0.1:1" in " ".join(seen.err.split())
    code, seen = ask("models", server="nonsense")
    assert "pass a URL" in " ".join(seen.err.split())


def test_a_command_that_only_works_here_is_not_offered(ask):
    assert ask("score", "x.pt")[0] == 2
    names = {command.name or command.callback.__name__ for command in remote.registered_commands}
    assert not names & {"score", "worker", "serve", "watch"}


def test_no_command_waits_for_the_client(tmp_path):
    code = "import sys, evalsvc.cli.main; print('httpx' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.fixture
def submitted(monkeypatch, capsys):
    """``submit`` against a server that takes everything: its exit code, what was sent and what was said."""
    sent = []

    def submit(client, **asked):
        sent.append({key: asked.get(key) for key in ("path", "upload", "endpoint", "model", "step")})
        return SimpleNamespace(model="m", step=1, mark="", status="queued", id=len(sent), model_dump=dict)

    monkeypatch.setattr(Client, "submit", submit)
    monkeypatch.setattr(Client, "upload", lambda client, path: SimpleNamespace(digest=digest_path(path)))
    monkeypatch.setenv("EVALSVC_TOKEN", "t")

    def run(*arguments):
        sent.clear()
        command = ["evalsvc", "--server", "http://localhost:1", "submit", "--generator", "vae", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main.run()
        return ended.value.code, list(sent), " ".join(capsys.readouterr().err.split())

    return run


def test_names_are_read_before_anything_is_sent(submitted, tmp_path):
    files = [tmp_path / "gan" / name for name in ("ck3.pt", "ema_0.9999_7.pt")]
    files[0].parent.mkdir()
    for file in files:
        file.write_text(file.name)
    code, sent, said = submitted(*files, "--upload")
    assert (code, sent) == (2, [])
    assert "cannot infer the step from" in said
    code, sent, said = submitted(*files, "--upload", "--step-pattern", r"(\d+)\.pt")
    assert (code, [(each["model"], each["step"]) for each in sent]) == (0, [("gan", 3), ("gan", 7)])
    assert digest_path(files[1])[:8] in said
    code, sent, said = submitted(*files, "--upload", "--step-pattern", "([37])[.]", "--model-pattern", "ema|gan")
    assert [(each["model"], each["step"]) for each in sent] == [("gan", 3), ("gan", 7)]
    code, sent, said = submitted(*files, "--upload", "--step-pattern", "k(3)?|_0.9999_7", "--model", "m")
    assert (code, sent) == (2, [])
    code, sent, said = submitted(*files, "--upload", "--step", 3)
    assert (code, sent) == (2, [])
    assert "differ in content" in said


def test_an_endpoint_of_the_server_is_submitted_by_its_name(submitted):
    code, sent, _ = submitted("endpoint:llama", "--step", "3")
    asked = [(each["endpoint"], each["path"], each["step"]) for each in sent]
    assert (code, asked) == (0, [("llama", None, 3)])


def test_of_a_servers_own_files_the_server_reads_what_their_names_leave_open(submitted):
    code, sent, said = submitted("/srv/gan/step_3.pt", "/srv/models/phi-2")
    assert (code, [(each["path"], each["model"], each["step"]) for each in sent]) == (
        0,
        [("/srv/gan/step_3.pt", None, None), ("/srv/models/phi-2", None, None)],
    )
    code, sent, said = submitted("/srv/gan/a_3.pt", "/srv/gan/b_3.pt")
    assert (code, sent) == (2, [])
    assert "/srv/gan/a_3.pt and /srv/gan/b_3.pt are both gan@3" in said
