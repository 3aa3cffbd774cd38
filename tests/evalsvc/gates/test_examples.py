import itertools
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from evalsvc.cli.gate import app
from evalsvc.gates.policy import load_policy
from evalsvc.gates.reports.markdown import MARKER
from evalsvc.gates.reports.write import requested
from evalsvc.gates.resolution import labels_of

from .store import DIGITS

CI = Path(__file__).parents[3] / "examples" / "ci"
ACTION = yaml.safe_load((CI / "action.yml").read_text())
STEPS = ACTION["runs"]["steps"]


@pytest.fixture
def action(tmp_path):
    """Runs the action's first step with these inputs; its exit code, outputs, and how it called ``evalsvc``."""
    called = tmp_path / "called.json"
    program = tmp_path / "bin" / "evalsvc"
    program.parent.mkdir()
    program.write_text(f'#!/bin/bash\nprintf "%s\\0" "$@" > {called}\nexit ${{CODE:-0}}\n')
    program.chmod(program.stat().st_mode | stat.S_IEXEC)

    def action(code=0, **inputs):
        outputs = tmp_path / "outputs"
        outputs.write_text("")
        given = {key: str(each["default"]) for key, each in ACTION["inputs"].items()} | inputs
        named = {
            key: given[value.removeprefix("${{ inputs.").removesuffix(" }}")] for key, value in STEPS[0]["env"].items()
        }
        environment = named | {"PATH": f"{program.parent}:{os.environ['PATH']}", "GITHUB_OUTPUT": str(outputs)}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[0]["run"]]
        done = subprocess.run(command, env=environment | {"CODE": str(code)}, cwd=tmp_path, check=False)
        said = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        return done.returncode, said, called.read_text().split("\0")[:-1] if called.exists() else []

    return action


def test_the_example_policy_fits_its_suite_and_passes_nothing_without_a_baseline():
    policy = load_policy(CI / "evalsvc-gate.yaml")
    assert labels_of(policy, DIGITS)
    assert (policy.on_missing_baseline, policy.on_inconclusive.then) == ("fail", "fail")


def test_the_action_puts_no_input_into_a_script_and_asks_for_options_that_exist():
    scripts = [step["run"] for step in STEPS if "run" in step]
    assert "${{" not in "".join(scripts)
    known = set(itertools.chain(*(each.opts for each in get_command(app).commands["run"].params)))
    assert {word.split("=")[0] for word in scripts[0].split() if word.startswith("--")} <= known


def test_the_action_hands_every_input_on_whatever_it_holds(action):
    code, said, called = action(
        candidate="runs/a b/$(touch x).pt", generator="flow", option="noise=2\nname=a b", plugin="dial.py\n",
        model="m", step="7", seed="3", stored="true", shadow="true", **{"warn-only": "true"},
    )  # fmt: skip
    assert (code, said) == (0, {"label": "evalsvc-gate", "folder": "gate/evalsvc-gate"})
    at = called.index("--report")
    assert called[2:at] == [
        "evalsvc-gate.yaml", "--timeout", "3600", "--candidate", "runs/a b/$(touch x).pt", "--generator", "flow",
        "--model", "m", "--step", "7", "--seed", "3", "--option", "noise=2", "--option", "name=a b",
        "--plugin", "dial.py", "--stored", "--warn-only", "--shadow",
    ]  # fmt: skip
    assert set(requested(called[at + 1 :: 2])) == {"junit", "html", "json", "comment"}


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7])
def test_the_action_ends_as_the_gate_does(action, code):
    assert action(code)[0] == code


def test_gates_of_a_matrix_share_no_comment_and_no_artifact(action):
    said = [action(name=name)[1] for name in ("", "small", "large")]
    for kind in ("label", "folder"):
        assert len({each[kind] for each in said}) == 3
    markers = [STEPS[1]["env"]["MARKER"].replace("${{ steps.gate.outputs.label }}", each["label"]) for each in said]
    assert markers[0] == MARKER
    assert not any(a.startswith(b) for a, b in itertools.permutations(markers, 2))
    assert STEPS[2]["with"]["name"] == "${{ steps.gate.outputs.label }}"
    code, _, called = action(name="a/../b")
    assert code == 2
    assert json.dumps(called).count("a/../b") == 0


def test_the_gitlab_template_publishes_the_reports_that_it_writes_and_lets_the_policy_decide():
    job = yaml.safe_load((CI / "gitlab.yml").read_text())["release-gate"]
    words = " ".join(job["script"]).split()
    written = {str(path) for paths in requested([w for w in words if "=gate/" in w]).values() for path in paths}
    assert set(job["artifacts"]["reports"].values()) <= written
    assert "allow_failure" not in job
    for url in ({}, {"EVALSVC_DATABASE_URL": ""}):
        done = subprocess.run(["bash", "-c", job["script"][0]], env=url, capture_output=True, check=False)
        assert done.returncode
