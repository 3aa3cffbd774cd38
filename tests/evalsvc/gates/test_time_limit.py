"""``--timeout`` counts from the beginning: what hangs while it is opened ends a gate as what hangs later does."""

import time

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from evalsvc.cli.main import app
from evalsvc.core.settings import Settings
from evalsvc.store import queries
from evalsvc.store.session import Database

from .store import gate_policy

PLUGIN = """
import time
from evalsvc import GeneratorInfo, register
from evalsvc import Images
{at_import}
@register("generators", "slow-{kind}")
class Slow:
    def __init__(self, checkpoint, device):
        self.info = GeneratorInfo("slow", "image", (1, 8, 8))
        {at_opening}
    def sample(self, request):
        return Images(request.normal(64).reshape(-1, 1, 8, 8).clamp(0, 1).mul(255).byte())
"""


# A busy machine takes seconds to reach the opening.
@pytest.mark.parametrize(("kind", "recorded", "limit"), [("import", False, "1.5"), ("opening", True, "4")])
def test_a_plug_in_that_hangs_while_it_is_opened_ends_the_gate_with_six(home, tmp_path, kind, recorded, limit):
    sleep = {f"at_{each}": "time.sleep(60)" if each == kind else "" for each in ("import", "opening")}
    (tmp_path / "slow.py").write_text(PLUGIN.format(kind=kind, **sleep))
    save_file({"w": torch.zeros(1)}, tmp_path / "step_8.safetensors")
    policy = gate_policy(candidate=None, baseline=None, metrics={"frechet_distance": {"max": 20}})
    (tmp_path / "gate.yaml").write_text(policy.model_dump_json(by_alias=True))
    command = ["gate", "run", tmp_path / "gate.yaml", "--candidate", tmp_path / "step_8.safetensors", "--model", "m"]
    command += ["--generator", f"slow-{kind}", "--plugin", tmp_path / "slow.py", "--device", "cpu", "--timeout", limit]
    command += ["--report", f"json={tmp_path / 'gate.json'}"]
    started = time.monotonic()
    done = CliRunner().invoke(app, [str(each) for each in command])
    assert time.monotonic() - started < 50
    assert done.exit_code == 6, done
    assert f"timed out after {limit} s" in done.output
    with Database(Settings().database).read() as session:
        gates = [(row.status, row.exit_code) for row in queries.gates(session)]
    assert gates == [("ERROR", 6)] * recorded
    assert (tmp_path / "gate.json").exists() == recorded
