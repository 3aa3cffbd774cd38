"""Whole evaluations on the device: the CPU's scores, twice the same, killed and resumed, the demo, and the queue."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.gpu.command import is_card
from benchmarks.gpu.lines import ROOT, DiffersError, Lines, NotHereError
from evalsvc.builtin.demo import shipped
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import load_suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store import queries

Scores = dict[str, tuple[float, float | None]]
SHARE = 0.1
"""Of its standard error by which a score on a device may be off the CPU's: pixels at half a level round differently."""
SUITE = """
name: gpu-check
version: 1
modality: image
reference: digits
samples: 600
shard: 100
extractors:
  features: {use: digits-cnn}
metrics:
  - {metric: frechet_distance, features: features/features}
  - {metric: kernel_distance, features: features/features, options: {subset_size: 100}}
  - {metric: prdc, features: features/features}
  - {metric: vendi_score, features: features/features}
"""
SLOW = """
import os, time
from evalsvc import GeneratorInfo, Images, register


@register("generators", "slow")
class Slow:
    info = GeneratorInfo("slow", "image", (1, 8, 8))

    def __init__(self, checkpoint, device):
        pass

    def sample(self, request):
        time.sleep(float(os.environ.get("PAUSE", 0)))
        return Images.from_unit(0.3 + 0.2 * request.normal(1, 8, 8))
"""
NEEDED = 30.0
"""Seconds that must be left for a check in other processes to begin."""
_CHOICES = "artifacts/backends"
_SHARDS = "artifacts/samples/*/[!.]*-*.safetensors"


def check(lines: Lines, device: torch.device, folder: Path) -> None:
    """Write the lines of evaluations within this process."""
    (folder / "suite.yaml").write_text(SUITE)
    lines.check("evaluation", "scores of the CPU", lambda: _of_cpu(device, folder))
    lines.check("evaluation", "twice the same scores", lambda: _twice(device, folder))


def check_processes(lines: Lines, device: torch.device, folder: Path) -> None:
    """Write the lines of evaluations by the command line, in processes that are killed too."""
    (folder / "suite.yaml").write_text(SUITE)
    (folder / "slow.py").write_text(SLOW)
    (folder / "weights_7.npy").write_bytes(b"any content")
    for name, work in (("killed and resumed", _killed), ("a worker of one slot", _queue), ("demo", _demo)):
        lines.check("processes", name, functools.partial(work, device, folder), needs=NEEDED)


def scores(device: torch.device, home: Path, suite: Path, *, rerun: bool = False) -> Scores:
    """Values and standard errors of the demo's last GAN, evaluated in a home, which keeps choices by measurement."""
    (last,) = [each for each in shipped() if each.generator == "gan"][-1:]
    context = EvaluationContext(Settings(home=home), Plugins(), str(device))
    spec = plan(context, Checkpoint.open(last.path, "gan", last.step), "gan", {}, load_suite(str(suite)))
    evaluation = evaluate(spec, context, rerun=rerun)
    with context.database.read() as session:
        found = {row.label: (row.value, row.stderr) for row in queries.scores(session, evaluation=evaluation)}
    context.database.engine.dispose()
    return found


def near(mine: Scores, theirs: Scores) -> str:
    """How far two sets of scores are apart, in standard errors.

    Raises:
        DiffersError: one is further away than rounding of pixels explains.
    """
    apart = {label: abs(value - theirs[label][0]) / (stderr or 1.0) for label, (value, stderr) in mine.items()}
    worst = max(apart, key=lambda label: apart[label])
    said = f"{worst} is {apart[worst]:.1e} standard errors off"
    if apart[worst] > SHARE:
        raise DiffersError(said)
    return said


def _of_cpu(device: torch.device, folder: Path) -> str:
    suite = folder / "suite.yaml"
    return near(scores(torch.device("cpu"), folder / "cpu", suite), scores(device, folder / "device", suite))


def _twice(device: torch.device, folder: Path) -> str:
    found = [scores(device, folder / "twice", folder / "suite.yaml", rerun=again) for again in (False, True)]
    if found[0] != found[1]:
        raise DiffersError("two evaluations on the device do not give the same bits")
    return f"{len(found[0])} scores bit-equal"


def _killed(device: torch.device, folder: Path) -> str:
    _skip_pretended(device)
    command = ["score", "weights_7.npy", "--generator", "slow", "--plugin", "slow.py", "--suite", "suite.yaml"]
    command += ["--device", str(device), "--json"]
    undisturbed = _values(_run(command, folder, folder / "undisturbed"))
    killed = folder / "killed"
    # Both do factorizations where the first found them to be faster.
    if (choices := folder / "undisturbed" / _CHOICES).exists():
        shutil.copytree(choices, killed / _CHOICES)
    with _started(command, folder, killed, PAUSE="0.5") as process:
        while len(list(killed.glob(_SHARDS))) < 2:
            if process.poll() is not None:
                raise DiffersError("the evaluation ended before it could be killed")
            time.sleep(0.02)
        process.kill()
        process.wait()
    before = {path: path.stat().st_mtime_ns for path in killed.glob(_SHARDS)}
    resumed = _values(_run(command, folder, killed))
    if any(path.stat().st_mtime_ns != written for path, written in before.items()):
        raise DiffersError("a shard that was finished before was computed again")
    if resumed != undisturbed:
        raise DiffersError("the scores of the resumed evaluation are not bit-equal")
    return f"{len(resumed)} scores bit-equal after a kill with {len(before)} of 6 shards"


def _queue(device: torch.device, folder: Path) -> str:
    _skip_pretended(device)
    if importlib.util.find_spec("dbos") is None:
        raise NotHereError("dbos is not installed (extra 'worker')")
    (last,) = [each for each in shipped() if each.generator == "gan"][-1:]
    home, given = folder / "queue", [str(last.path), "--generator", "gan", "--suite", "suite.yaml"]
    _run(["submit", *given], folder, home)
    with _started(["worker", "--devices", str(device)], folder, home) as worker:
        _run(["wait", "--timeout", "90"], folder, home)
        worker.terminate()
        worker.wait(60)
    stored = _values(_run(["score", *given, "--json"], folder, home))
    alone = scores(device, home, folder / "suite.yaml", rerun=True)
    if stored != alone:
        raise DiffersError(f"scores of the queue are not bit-equal: {near(alone, stored)}")
    return f"{len(stored)} scores bit-equal to those without a queue"


def _demo(device: torch.device, folder: Path) -> str:
    _skip_pretended(device)
    start = time.perf_counter()
    _run(["demo", "--device", str(device)], folder, folder / "demo")
    return f"{time.perf_counter() - start:.0f} s"


def _skip_pretended(device: torch.device) -> None:
    if device.type == "cuda" and not is_card(device):
        raise NotHereError("a pretended device ends with its process")


def _values(document: str) -> Scores:
    (one,) = json.loads(document)
    return {each["label"]: (each["value"], each["stderr"]) for each in one["scores"]}


def _run(command: list[str], folder: Path, home: Path) -> str:
    command = [sys.executable, "-m", "evalsvc", *command]
    done = subprocess.run(command, cwd=folder, env=_environment(home), capture_output=True, text=True, check=False)
    if done.returncode:
        raise DiffersError(f"{command[3]} ends with {done.returncode}: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout


@contextmanager
def _started(command: list[str], folder: Path, home: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = _environment(home) | more
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-m", "evalsvc", *command]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=quiet, stderr=quiet)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _environment(home: Path) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"EVALSVC_HOME": str(home), "PYTHONPATH": path}
