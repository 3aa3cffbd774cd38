"""What is only read does not wait for torch, whose import takes seconds."""

import json
import subprocess
import sys

from sqlalchemy import update

from evalsvc.store.session import Database
from evalsvc.store.tables import Evaluation
from tests.dashboards.stores import fill

READING = [
    "--help",
    "--version",
    "leaderboard",
    "ratings",
    "compare a@0 b@0",
    "show a@0",
    "models",
    "checkpoints",
    "status",
    "suite list",
    "suite show digits",
    "suite validate text-tiny@1",
    "reference list",
    "plugins list",
    "gate check examples/ci/evalsvc-gate.yaml",
    "gate schema",
    "gate history",
    "alias list",
    "weights list",
    "token list",
    "audit",
    "cache --help",
    "db --help",
    "score --help",
    "--server http://127.0.0.1:1 models",
]
EACH = """
import contextlib, io, json, sys
import evalsvc
from evalsvc.cli.main import run

found = {}
for command in ["", *json.load(sys.stdin)]:
    said, code = io.StringIO(), 0
    if command:
        sys.argv = ["evalsvc", *command.split()]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                run()
            except SystemExit as stop:
                code = stop.code or 0
    slow = [each for each in ("torch", "scipy", "pandas") if each in sys.modules]
    found[command] = {"slow": slow, "torch": "torch" in slow, "code": code, "said": said.getvalue()}
print(json.dumps(found), file=sys.__stdout__)
"""


def test_reading_commands_do_not_import_torch(home):
    database = Database(f"sqlite:///{home.resolve()}/evalsvc.db")
    fill(database, ["a", "b"], range(0, 2000, 1000), labels=2)
    facts = {"seconds": {}, "packages": {}, "samples_per_second": 1.0, "device": "cpu", "device_name": "", "threads": 1}
    with database.write() as session:
        session.execute(
            update(Evaluation).values(provenance=facts | {"seed": 1, "git_commit": "", "not_applicable": {}})
        )
    done = subprocess.run(
        [sys.executable, "-c", EACH], input=json.dumps(READING), capture_output=True, text=True, timeout=120
    )
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert [command for command, each in found.items() if each["torch"]] == []
    assert found[""]["slow"] == found["--help"]["slow"] == []
    failed = {command: each["said"] for command, each in found.items() if each["code"] not in (0, None)}
    assert list(failed) == ["--server http://127.0.0.1:1 models"], failed
    assert found["--version"]["said"].startswith("evalsvc ")
