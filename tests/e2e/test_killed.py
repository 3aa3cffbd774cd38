"""kill -9 in the middle of a run, and the same command again."""

import json
import os
import signal
import time

import numpy as np
import pytest

SLOW = """
import time
from evalsvc.plugins import GeneratorInfo, register
from evalsvc.samples import Images


@register("generators", "slow")
class Slow:
    info = GeneratorInfo("slow", "image", (1, 8, 8))

    def __init__(self, checkpoint, device):
        pass

    def sample(self, request):
        time.sleep(0.1)
        return Images.from_unit(0.3 + 0.2 * request.normal(1, 8, 8))
"""
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
    return {path: path.stat().st_mtime_ns for path in home.glob("artifacts/samples/*/*-*.safetensors")}


def values(done):
    (evaluation,) = json.loads(done.stdout)
    return {score["label"]: score for score in evaluation["scores"]}


@pytest.mark.parametrize("after", [1, 5])
def test_a_killed_run_goes_on_and_gives_bit_identical_scores(evalsvc, start, command, environment, tmp_path, after):
    undisturbed = evalsvc(*command)
    environment["EVALSVC_HOME"] = str(tmp_path / "killed")
    process = start(*command)
    while len(shards(tmp_path / "killed")) < after:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = shards(tmp_path / "killed")
    assert after <= len(before) < 10
    again = evalsvc(*command)
    assert values(again) == values(undisturbed)
    assert before.items() <= shards(tmp_path / "killed").items(), "a finished shard was computed again"


def test_ctrl_c_says_how_to_go_on_and_leaves_no_scores(evalsvc, start, command, tmp_path):
    process = start(*command)
    while not shards(tmp_path / "home"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on from here" in errors
    assert "nothing has been scored yet" in evalsvc("leaderboard", code=2).stderr
