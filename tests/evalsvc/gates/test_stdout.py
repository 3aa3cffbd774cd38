"""What a gate says nobody may read; its exit code is documented all the same."""

import os
import sys
from pathlib import Path

import pytest

from evalsvc.cli import main
from evalsvc.core.settings import Settings
from evalsvc.store import queries
from evalsvc.store.session import Database

from .store import add_checkpoint, add_scores, gate_policy


@pytest.fixture
def ends(home, tmp_path, monkeypatch, capfd):
    """Runs a command with this standard output; its exit code and its sentences."""
    with Database(Settings().database).write() as session:
        add_scores(session, add_checkpoint(session, step=9), {"frechet_distance": 20.0})
    policy = gate_policy(baseline=None, metrics={"frechet_distance": {"max": 40}})
    (tmp_path / "gate.yaml").write_text(policy.model_dump_json(by_alias=True))

    def ends(stream, *arguments):
        monkeypatch.setattr(sys, "argv", ["evalsvc", *map(str, arguments)])
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            with pytest.raises(SystemExit) as stopped:
                main.run()
        return stopped.value.code, capfd.readouterr().err

    return ends


def full():
    return Path("/dev/full").open("w")


def broken():
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


@pytest.mark.parametrize("more", [[], ["--json"], ["--shadow"]])
@pytest.mark.parametrize(
    ("stream", "reason"),
    [(full, "No space left"), (broken, "Broken pipe"), (lambda: None, "standard output is closed")],
)
def test_a_gate_that_cannot_be_read_ends_with_six_and_is_recorded(ends, tmp_path, stream, reason, more):
    opened = stream()
    code, said = ends(opened, "gate", "run", tmp_path / "gate.yaml", "--stored", *more)
    assert code == 6
    [sentence] = [line for line in said.splitlines() if line.startswith("error:")]
    assert reason in sentence
    with Database(Settings().database).read() as session:
        assert queries.gates(session)[0].status == "PASS"
    if opened is not None:
        opened.close()  # and what the buffer held does not fail a second time


@pytest.mark.parametrize("arguments", [("models",), ("gate", "schema"), ("leaderboard", "--json")])
def test_any_other_command_with_a_full_standard_output_is_one_sentence(ends, arguments):
    with full() as opened:
        code, said = ends(opened, *arguments)
    assert code in (2, 6)
    assert "Traceback" not in said
    assert "standard output cannot be written (No space left on device)" in said


def test_a_policy_that_is_not_there_is_one_sentence(ends, tmp_path):
    for command in (["gate", "run"], ["gate", "check"], ["alias", "set", "production", "flow", "--require-gate"]):
        code, said = ends(sys.stdout, *command, tmp_path / "none.yaml")
        assert code == 2
        assert "none.yaml cannot be read" in said
