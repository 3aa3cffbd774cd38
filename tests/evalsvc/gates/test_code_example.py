"""The example of a gate on a code model: its programs run, and the share that passes decides."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalsvc.cli.main import app
from tests.namespaces import needs_namespaces

pytestmark = needs_namespaces

CODE = Path(__file__).parents[3] / "examples" / "gates" / "code"
ANSWERS = CODE / "answers_step_100.jsonl"


@pytest.mark.parametrize(("spoiled", "code", "verdict", "value"), [(1, 0, "PASS", "0.91"), (2, 3, "FAIL", "0.47")])
def test_the_share_of_programs_that_pass_decides_the_gate(home, tmp_path, spoiled, code, verdict, value):
    lines = ANSWERS.read_text().splitlines()
    wrong = [json.dumps({"text": "    return\n"}) if i % spoiled else line for i, line in enumerate(lines)]
    answers = tmp_path / "answers_step_1.jsonl"
    answers.write_text("\n".join(wrong))
    options = ["--candidate", str(answers), "--generator", "samples", "--model", "coder"]
    run = CliRunner().invoke(app, ["gate", "run", str(CODE / "evalsvc-gate.yaml"), *options])
    assert run.exit_code == code, run.output
    row = next(line for line in run.stdout.splitlines() if " passed " in line)
    assert verdict in row
    assert f"limit: {value}" in row
