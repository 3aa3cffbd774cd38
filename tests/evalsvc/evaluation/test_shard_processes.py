"""One evaluation on several devices: the same scores, and one clear end whatever ends."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from typer.testing import CliRunner

from evalsvc.cli.main import app
from evalsvc.core.cards import Card
from evalsvc.core.errors import (
    CheckpointError,
    DamagedError,
    InputError,
    MissingError,
    ModelError,
    QuotaError,
    StorageError,
)
from evalsvc.core.settings import Settings
from evalsvc.core.side_by_side import side_by_side
from evalsvc.evaluation import shard_process, shard_process_main
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.evaluation.shard_computation import compute_shard
from evalsvc.evaluation.shard_process import Running, ShardProcess, ShardProcessRole, shard_processes
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store.tables import Evaluation, Failure, Status
from tests.e2e.fleet import scores

PLUGIN = """
import os, time
from pathlib import Path
from evalsvc import GeneratorInfo, Images, register

FOLDER = Path(__file__).parent


@register("generators", "shared")
class Shared:
    info = GeneratorInfo("shared", "image", (1, 8, 8))

    def __init__(self, checkpoint, device):
        self.helps = os.environ["TESTS"] != str(os.getpid())

    def sample(self, request):
        first = int(request.indices[0])
        if self.helps:
            if (FOLDER / "deadly").exists():
                os.kill(os.getpid(), 9)
            (FOLDER / f"helped-{first}").touch()
        elif first >= 200:  # the helper, which has just been started, takes one of the others
            until = time.monotonic() + 60
            while not (FOLDER / "alone").exists() and not any(FOLDER.glob("helped-*")) and time.monotonic() < until:
                time.sleep(0.01)
        if (FOLDER / "broken").exists():
            raise ValueError("no images today")
        return Images.from_unit(0.3 + 0.2 * request.normal(1, 8, 8))
"""
SUITE = {
    "name": "shared",
    "version": 1,
    "modality": "image",
    "reference": "digits",
    "samples": 400,
    "shard": 40,
    "extractors": {"pixels": {"use": "pixels"}},
    "metrics": [{"metric": "frechet_distance", "features": "pixels/pixels"}],
}


@pytest.fixture
def opened(tmp_path, home, monkeypatch):
    """A function that opens a context and plans the evaluation in it."""
    monkeypatch.setenv("TESTS", str(os.getpid()))
    (tmp_path / "shared.py").write_text(PLUGIN)
    np.save(tmp_path / "weights_7.npy", np.zeros(3))

    def open_(home):
        context = EvaluationContext(Settings(home=home), Plugins((tmp_path / "shared.py",)), "cpu", 20)
        checkpoint = Checkpoint.open(tmp_path / "weights_7.npy", "weights", 7)
        return context, plan(context, checkpoint, "shared", {}, Suite.model_validate(SUITE))

    return open_


def test_two_devices_share_an_evaluation_and_a_killed_process_ends_it_in_one_sentence(opened, home, tmp_path):
    (tmp_path / "alone").touch()
    context, spec = opened(tmp_path / "undisturbed")
    expected = scores(context.database, evaluate(spec, context))
    (tmp_path / "alone").unlink()

    context, spec = opened(home)
    with shard_processes([Card(name="cuda:1", device="cpu")], [tmp_path / "shared.py"], 20) as context.helpers:
        evaluation = evaluate(spec, context)
        assert scores(context.database, evaluation) == expected
        helped = sorted(int(path.name.partition("-")[2]) for path in tmp_path.glob("helped-*"))
        assert 0 < len(helped) < 20
        with context.database.read() as session:
            row = session.get_one(Evaluation, evaluation)
            assert len(row.shards) == 10
            assert row.device_seconds > sum(shard.seconds for shard in row.shards) > 0

        (helper,), first = context.helpers, spec.shards[0]
        (tmp_path / "broken").touch()
        with pytest.raises(ModelError, match="no images today") as there:
            helper.compute(spec, first, lambda _: None, rerun=True)
        with pytest.raises(ModelError) as here:
            compute_shard(spec, first, context, lambda _: None, rerun=True)
        assert str(there.value) == str(here.value)
        (tmp_path / "broken").unlink()

        (tmp_path / "deadly").touch()
        with pytest.raises(
            StorageError, match=r"process on cuda:1 was killed by SIGKILL in samples \d+-\d+: run the same"
        ):
            evaluate(spec, context, rerun=True)
    with context.database.read() as session:
        row = session.get_one(Evaluation, evaluation + 1)
        assert (row.status, row.failure) == (Status.FAILED, Failure.INFRASTRUCTURE)
    (tmp_path / "alone").touch()
    context.helpers = ()
    assert evaluate(spec, context, rerun=False) == evaluation, "the earlier scores stay"
    assert scores(context.database, evaluate(spec, context, rerun=True)) == expected


def test_a_device_that_is_not_there_is_named_before_anything_is_computed(home):
    ours, theirs = multiprocessing.Pipe()
    role = ShardProcessRole(card=Card(name="GPU-gone", device="nonsense"), batch_size=20, plugins=())
    shard_process_main.work(theirs, role)
    error, failure = ours.recv()
    assert "device 'GPU-gone' cannot be used here" in str(error)
    assert (type(error), failure) == (InputError, Failure.MODEL)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("time.sleep(0.1); os._exit(3)", "exited with code 3"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
    ],
)
def test_the_end_of_a_process_is_told_as_it_was(monkeypatch, end, said):
    ours, theirs = multiprocessing.Pipe()
    program = f"import os, time; os.close({theirs.fileno()}); {end}"
    process = subprocess.Popen([sys.executable, "-S", "-c", program], pass_fds=[theirs.fileno()])
    theirs.close()
    monkeypatch.setattr(ShardProcess, "_start", lambda self: Running(process, ours))
    with pytest.raises(StorageError, match=f"the process on cpu {said} at its start"):
        ShardProcess(ShardProcessRole(card=Card(name="cpu"), batch_size=20, plugins=())).open()


@pytest.mark.parametrize("ignores", [False, True])
def test_a_process_that_is_ended_may_end_first_what_its_plugins_have_started(monkeypatch, tmp_path, ignores):
    program = """
import signal, sys, time
from multiprocessing.connection import Connection
from pathlib import Path
if sys.argv[3] == "True":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
try:
    Connection(int(sys.argv[1])).send(None)
    time.sleep(60)
finally:
    Path(sys.argv[2]).touch()
"""
    ours, theirs = multiprocessing.Pipe()
    command = [sys.executable, "-S", "-c", program, str(theirs.fileno()), str(tmp_path / "ended"), str(ignores)]
    child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
    monkeypatch.setattr(ShardProcess, "_start", lambda self: Running(child, ours))
    monkeypatch.setattr(shard_process, "LAST_SECONDS", 0.1 if ignores else 60)
    process = ShardProcess(ShardProcessRole(card=Card(name="cpu"), batch_size=20, plugins=()))
    process.open()
    process.end()
    assert child.returncode is not None
    assert (tmp_path / "ended").exists() is not ignores


def test_an_error_of_a_plugin_that_cannot_be_sent_is_still_one_of_the_model():
    error = ModelError("it holds a function")
    error.held = lambda: None
    sent, failure = shard_process_main._failed(error)
    assert (type(sent), str(sent), failure) == (ModelError, "ModelError: it holds a function", Failure.MODEL)


def test_the_first_error_ends_all_and_is_the_one_that_is_raised():
    halted = threading.Event()

    def waits():
        assert halted.wait(60)
        raise RuntimeError("a consequence")

    def fails():
        raise KeyboardInterrupt

    for own, others in ((fails, [waits, waits]), (waits, [waits, fails])):
        halted.clear()
        with pytest.raises(KeyboardInterrupt):
            side_by_side(own, others, halted.set)
    side_by_side(lambda: None, [], pytest.fail)


def test_one_device_or_several_are_asked_for():
    command = ["score", "x.npy", "--generator", "samples", "--device", "cpu", "--devices", "cpu,cpu"]
    done = CliRunner().invoke(app, command)
    assert "--device and --devices are both given" in str(done.exception)


@pytest.mark.parametrize(
    "error",
    [
        InputError("a"),
        CheckpointError("a", detail="b"),
        DamagedError("key", "reason"),
        MissingError("key"),
        QuotaError("a", retry_after=5),
    ],
)
def test_an_error_of_another_process_is_the_same_error(error):
    there = pickle.loads(pickle.dumps(error))
    assert (type(there), str(there), vars(there)) == (type(error), str(error), vars(error))
