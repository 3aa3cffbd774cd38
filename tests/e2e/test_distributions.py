"""Wheel, wheel from the sdist, editable install and checkout hold the same files, under one import name."""

import fnmatch
import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

LINKS = ("metrics", "dashboards")
TRAIN = """
from types import SimpleNamespace
import sys
import dashboards, evalsvc, metrics, torch
from evalsvc.integrations.lightning import EvaluateCheckpoints

class Server:
    def submit(self, **asked):
        print("submitted", asked["model"], asked["step"])
        return SimpleNamespace(id=1)
    def close(self):
        pass

callback = EvaluateCheckpoints("digits@1", "gan", every_n_steps=2, model="mine", client=Server)
trainer, module = SimpleNamespace(global_step=0, is_global_zero=True), torch.nn.Linear(2, 1)
for trainer.global_step in range(3):
    callback.on_train_batch_end(trainer, module)
callback.on_train_end(trainer, module)
assert metrics.MINE and dashboards.MINE and evalsvc.__file__.startswith(sys.prefix)
"""
POLICY = """
version: 1
suite: digits@1
candidate: {model: gan, step: 1}
metrics:
  recall: {min: 0.5}
"""
TEST = """
import dashboards, evalsvc, metrics, sys

def test_release(evalsvc_gate):
    assert metrics.MINE and dashboards.MINE and evalsvc.__file__.startswith(sys.prefix)
    print("gate is", evalsvc_gate("policy.yaml", stored=True).status)
"""
PROGRAM = """
from typing import assert_type

import evalsvc
from evalsvc import Checkpoint, Client, GeneratorInfo, Images, SampleRequest, Suite
from evalsvc import load_suite, open_to_clients, register, versioned

assert_type(load_suite("digits@1"), Suite)
assert_type(load_suite("digits@1").samples, int)
assert_type(Client("http://127.0.0.1:8642").about().version, str)

@register("generators", "mine")
@versioned("1")
@open_to_clients("noise")
class Mine:
    info = GeneratorInfo("mine", "image")

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.step = assert_type(checkpoint.step, int)

    def sample(self, request: SampleRequest) -> Images:
        return Images.from_signed(request.normal(3, 8, 8))

assert_type(Mine.info.family, str)

run = evalsvc.evaluate("samples.npz", suite="digits@1", model="mine", step=1000)
assert_type(run.name, str)
assert_type(run.scores["frechet_distance"].value, float)
assert_type([each.label for each in evalsvc.compare(run, "mine@500")], list[str])
assert_type([len(board.entries) for board in evalsvc.leaderboard("digits@1")], list[int])
assert_type([row.value for row in evalsvc.scores(model="mine")], list[float])
assert_type(evalsvc.__version__, str)
evalsvc.submit("runs/step_1.pt", suite="digits@1", generator="mine")
"""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files_of(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as opened:
        return {name: sha256(opened.read(name)) for name in opened.namelist()}


def files_under(folder: Path, prefix: str = "") -> dict[str, str]:
    walked = os.walk(folder, followlinks=True)
    paths = [Path(where, file) for where, _, files in walked for file in files]
    return {prefix + str(path.relative_to(folder)): sha256(path.read_bytes()) for path in paths}


def test_a_wheel_is_the_same_from_a_checkout_and_from_the_sdist(built):
    assert files_of(built.wheel) == files_of(built.wheel_from_sdist)


def test_a_wheel_holds_what_an_editable_install_imports_and_nothing_else(built):
    imported = files_under(built.checkout / "evalsvc", "evalsvc/")
    imported |= files_under(built.checkout / "alembic", "evalsvc/_migrations/")
    packed = files_of(built.wheel)
    assert {name: digest for name, digest in packed.items() if name.startswith("evalsvc/")} == imported
    assert {name.partition("/")[0] for name in packed} == {
        "evalsvc",
        built.wheel.stem.removesuffix("-py3-none-any") + ".dist-info",
    }


@pytest.mark.parametrize(
    "pattern",
    [
        "evalsvc/py.typed",
        "*.dist-info/licenses/LICENSE",
        "evalsvc/*/digits@1.yaml",
        "evalsvc/_migrations/versions/0009_*.py",
        "evalsvc/builtin/*.safetensors",
        "evalsvc/metrics/frechet.py",
        "evalsvc/dashboards/views/*.py",
    ],
)
def test_a_wheel_holds(built, pattern):
    assert fnmatch.filter(files_of(built.wheel), pattern)


def test_the_license_is_the_whole_of_apache_2(built):
    (packed,) = (digest for name, digest in files_of(built.wheel).items() if name.endswith("licenses/LICENSE"))
    assert packed == sha256((built.checkout / "LICENSE").read_bytes())
    assert packed == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30", "as apache.org has it"


def test_an_sdist_is_the_checkout_with_the_linked_folders_in_one_place(built):
    with tarfile.open(built.sdist) as opened:
        members = [member for member in opened if member.isfile() or member.issym()]
        found = {member.name.partition("/")[2]: member for member in members}
        assert not any(member.issym() for member in members)
        packed = {name: sha256(opened.extractfile(member).read()) for name, member in found.items()}
    packed.pop("PKG-INFO")
    wanted = files_under(built.checkout)
    assert packed == {
        name: digest for name, digest in wanted.items() if not name.startswith(tuple(f"{each}/" for each in LINKS))
    }


# --- a user's own modules of these names ---


@pytest.fixture
def theirs(wheel_python, tmp_path):
    """Run Python with the wheel, in a folder with modules of its own that are called as folders of ours."""
    (tmp_path / "metrics").mkdir()
    for name in ("metrics/__init__.py", "dashboards.py"):
        (tmp_path / name).write_text("MINE = 'theirs'\n")

    def run(*arguments):
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("EVALSVC_", "PYTEST_"))}
        environment = kept | {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # of others
        done = subprocess.run(
            [wheel_python, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_train_script_with_a_callback_keeps_its_own_metrics_and_dashboards(theirs, tmp_path):
    (tmp_path / "lightning").mkdir()  # stands for the trainer, which takes ten seconds to import
    (tmp_path / "lightning" / "pytorch.py").write_text("Callback = LightningModule = Trainer = object\n")
    (tmp_path / "train.py").write_text(TRAIN)
    assert "submitted mine 2" in theirs("train.py")


def test_the_pytest_fixture_works_beside_a_folder_called_metrics(theirs, tmp_path):
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "test_release.py").write_text(TEST)
    assert "gate is MISSING" in theirs("-m", "pytest", "-q", "-s", "-p", "evalsvc.pytest_plugin")


def test_a_strictly_checked_program_finds_the_types_of_public_names(wheel_python, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    # What others' packages say of themselves takes a minute to read, and is not what is asked.
    others = ",".join(f"{name}.*" for name in ("numpy", "pandas", "PIL", "rich", "scipy", "sqlalchemy", "torch"))
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = true\n[mypy-{others}]\nfollow_imports = skip\n")
    options = ["--config-file", "mypy.ini", "--cache-dir", os.devnull, "--python-executable", wheel_python]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
