"""kill -9 in the middle of a run, and the same command again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.gpu.evaluations import SLOW
from benchmarks.random_inception import random_state
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.references import add_reference
from evalsvc.inputs.suites import load_suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store import queries

SUITE = """
name: quick
version: 1
modality: image
reference: digits
samples: 400
shard: 40
extractors:
  pixels: {use: pixels}
metrics:
  - {metric: frechet_distance, features: pixels/pixels}
  - {metric: precision_recall, features: pixels/pixels}
  - {metric: kernel_distance, features: pixels/pixels, options: {subset_size: 100}}
"""


@pytest.fixture
def command(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "quick.yaml").write_text(SUITE)
    np.save(tmp_path / "weights_7.npy", np.zeros(3))
    return ["score", "weights_7.npy", "--generator", "slow", "--plugin", "slow.py", "--suite", "quick.yaml", "--json"]


def shards(home):
    return {path: path.stat().st_mtime_ns for path in home.glob("artifacts/samples/*/[!.]*-*.safetensors")}


def values(done):
    (evaluation,) = json.loads(done.stdout)
    return {score["label"]: score for score in evaluation["scores"]}


def test_a_run_killed_twice_goes_on_and_gives_bit_identical_scores(evalsvc, start, command, environment, tmp_path):
    undisturbed = evalsvc(*command)
    environment |= {"EVALSVC_HOME": str(tmp_path / "killed"), "PAUSE": "0.5"}
    before = {}
    for after in (1, 5):
        process = start(*command)
        while len(shards(tmp_path / "killed")) < after:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert before.items() <= shards(tmp_path / "killed").items(), "a finished shard was computed again"
        before = shards(tmp_path / "killed")
        assert after <= len(before) < 10
    environment["PAUSE"] = "0"
    again = evalsvc(*command)
    assert values(again) == values(undisturbed)
    assert before.items() <= shards(tmp_path / "killed").items(), "a finished shard was computed again"


INCEPTION = """
name: fid
version: 1
modality: image
reference: real
samples: 12
shard: 2
extractors:
  inception: {use: inception-v3, options: {weights: random.pth, backend: torch}}
metrics:
  - {metric: frechet_distance, features: inception/pool3}
  - {metric: inception_score, features: inception/logits, options: {splits: 1}}
"""


def test_a_killed_run_of_a_whole_inception_goes_on_and_gives_bit_identical_scores(
    evalsvc, start, environment, tmp_path
):
    random = np.random.default_rng(0)
    for folder in ("made_1", "real"):
        (tmp_path / folder).mkdir()
        for i in range(12):
            Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / folder / f"{i}.png")
    torch.save(random_state(), tmp_path / "random.pth")
    (tmp_path / "fid.yaml").write_text(INCEPTION.replace("random.pth", str(tmp_path / "random.pth")))
    undisturbed, disturbed = (evaluation_context(tmp_path / name) for name in ("undisturbed", "disturbed"))
    for context in (undisturbed, disturbed):
        add_reference(context.database, context.plugins, "real", tmp_path / "real", None)
    checkpoint = Checkpoint.open(tmp_path / "made_1", "made", 1)
    suite = load_suite(str(tmp_path / "fid.yaml"))
    evaluation = evaluate(plan(undisturbed, checkpoint, "samples", {}, suite), undisturbed)
    with undisturbed.database.read() as session:
        expected = {row.label: (row.value, row.stderr) for row in queries.scores(session, evaluation=evaluation)}

    shutil.copytree(tmp_path / "undisturbed/artifacts/reference", tmp_path / "disturbed/artifacts/reference")
    environment["EVALSVC_HOME"] = str(tmp_path / "disturbed")
    command = ["score", "made_1", "--generator", "samples", "--suite", "fid.yaml", "--json", "--batch-size", "2"]
    process = start(*command)
    while len(shards(tmp_path / "disturbed")) < 1:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = shards(tmp_path / "disturbed")
    assert 1 <= len(before) < 6
    found = values(evalsvc(*command))
    assert {label: (score["value"], score["stderr"]) for label, score in found.items()} == expected
    assert before.items() <= shards(tmp_path / "disturbed").items(), "a finished shard was computed again"


def evaluation_context(home):
    return EvaluationContext(Settings(home=home), Plugins(), "cpu", batch_size=2)


def test_ctrl_c_says_how_to_go_on_and_leaves_no_scores(evalsvc, start, command, environment, tmp_path):
    environment["PAUSE"] = "3"
    process = start(*command)
    while not shards(tmp_path / "home"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    while process.poll() is None:  # Python drops what is raised in a weak reference's callback: pressed again then
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "run the same command again to continue" in errors
    assert "nothing has been scored yet" in evalsvc("leaderboard", code=2).stderr


def test_ctrl_c_before_everything_is_imported_is_no_traceback(environment):
    code = """
import sys
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from evalsvc.cli import run
run()
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
