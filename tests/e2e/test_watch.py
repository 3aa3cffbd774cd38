"""``evalsvc watch`` as a process, beside a training run that writes checkpoints in its own order, in its own time."""

import os
import shutil
import signal
import sqlite3
import time

import pytest

from evalsvc.builtin.demo import shipped
from evalsvc.cli import main

CHECKPOINTS = [path.read_bytes() for family, _, path in shipped() if family == "vae"]


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs" / "digits-vae"
    folder.mkdir(parents=True)
    return folder


def evaluations(tmp_path):
    query = "SELECT step, status, on_queue FROM evaluations JOIN checkpoints ON checkpoint_id = checkpoints.id"
    database = tmp_path / "home" / "evalsvc.db"
    try:
        return sqlite3.connect(database).execute(f"{query} ORDER BY evaluations.id").fetchall()
    except sqlite3.OperationalError:
        return []


def until(process, condition, meanwhile=lambda: None):
    while not condition():
        assert process.poll() is None, process.communicate()
        meanwhile()
        time.sleep(0.02)


def test_checkpoints_are_submitted_once_whole_in_any_order_and_after_a_kill(start, runs, tmp_path, monkeypatch, capsys):
    command = ["watch", str(runs), "--pattern", "step_*", "--generator", "vae", "--settle", "0.3", "--every", "0.1"]
    process = start(*command)
    with (runs / "step_20.safetensors").open("wb", buffering=0) as file:
        rest = iter(CHECKPOINTS[0])
        (runs / "step_10.safetensors").write_bytes(CHECKPOINTS[1])
        until(process, lambda: len(evaluations(tmp_path)) == 1, lambda: file.write(bytes([next(rest)])))
        file.write(bytes(rest))
    until(process, lambda: len(evaluations(tmp_path)) == 2)
    assert evaluations(tmp_path)[0] == (10, "queued", 1)
    shutil.copy(runs / "step_20.safetensors", runs / "step_21_best.safetensors")
    assert [process.stdout.readline(), process.stdout.readline()] == ["1\n", "2\n"]
    os.kill(process.pid, signal.SIGKILL)
    _, talk = process.communicate()
    assert "step_10.safetensors submitted as digits-vae@10" in talk

    (runs / "step_5.safetensors").write_bytes(CHECKPOINTS[2])
    (runs / "step_6.safetensors").write_bytes(b"garbage")
    monkeypatch.setenv("EVALSVC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("sys.argv", ["evalsvc", *command, "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if "safetensors" in line]
    assert [line.rpartition("digits-vae/")[2] for line in lines] == [
        "step_5.safetensors would be submitted as digits-vae@5",
        "step_6.safetensors is not a complete safetensors file (7 bytes, less than its declared header length)",
        "step_10.safetensors is digits-vae@10: evaluation 1 of it is queued",
        "step_20.safetensors is digits-vae@20: evaluation 2 of it is queued",
        "step_21_best.safetensors is digits-vae@21: evaluation 2 of it is queued",
    ]
    assert len(evaluations(tmp_path)) == 2
