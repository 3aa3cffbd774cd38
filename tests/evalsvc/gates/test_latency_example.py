"""The example of a gate on latency: its program runs, and a clock in its place says how long it took."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from evalsvc.builtin.generators import command
from evalsvc.builtin.generators.program import Runner
from evalsvc.cli.main import app
from evalsvc.gates.policy import load_policy
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.samples import SampleRequest

LATENCY = Path(__file__).parents[3] / "examples" / "gates" / "latency"
POLICY, PROGRAM = str(LATENCY / "evalsvc-gate.yaml"), LATENCY / "answer.yaml"


def clock(slow):
    """Each pair of readings is a run: 20 to 200 ms, but 1 to 3 s for this share of the runs."""
    rng = np.random.default_rng(0)
    runs = (float(rng.uniform(1, 3) if rng.random() < slow else rng.uniform(0.02, 0.2)) for _ in itertools.count())
    readings = itertools.accumulate(itertools.chain.from_iterable((10.0, each) for each in runs))
    return SimpleNamespace(perf_counter=lambda: next(readings))


def test_the_program_answers_a_question():
    generator = command.CommandSamples(Checkpoint.open(PROGRAM, "answers", 1), torch.device("cpu"))
    one = SampleRequest.of(1, 0, 1)
    drawn = generator.sample(SampleRequest(one.seeds, one.indices, one.device, ("How much?",)))
    assert (drawn.samples.items, dict(drawn.failures)) == (("?hcum woH",), {})
    assert float(drawn.usage.seconds) > 0


@pytest.mark.parametrize(("slow", "code", "verdict"), [(0.0, 0, "PASS"), (0.2, 3, "FAIL")])
def test_the_slowest_answers_decide_the_gate(home, monkeypatch, slow, code, verdict):
    monkeypatch.setattr(command, "time", clock(slow))
    monkeypatch.setattr(Runner, "run", lambda _, arguments, folder: Path(arguments[3]).write_text("so"))
    options = ["--candidate", str(PROGRAM), "--generator", "command", "--model", "answers", "--step", "1"]
    run = CliRunner().invoke(app, ["gate", "run", POLICY, *options])
    assert run.exit_code == code, run.output
    assert verdict in next(line for line in run.stdout.splitlines() if "seconds_p95" in line)


def test_the_policy_limits_failures_too_so_that_no_answer_is_not_a_quick_answer():
    assert set(load_policy(Path(POLICY)).metrics) == {"seconds_p95", "answer_failed"}
