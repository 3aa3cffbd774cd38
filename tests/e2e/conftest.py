from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = [sys.executable, "-m", "evalsvc"]


@dataclass(frozen=True)
class Built:
    """A checkout of this working tree as git makes it, links as links, and what was built from it."""

    checkout: Path
    sdist: Path
    wheel: Path
    wheel_from_sdist: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built once for all tests of a process."""
    folder = tmp_path_factory.mktemp("built")
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git checkout to build from")
    for name in set(done.stdout.split("\0")) - {""}:
        if (ROOT / name).exists():
            (folder / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / "checkout" / name, follow_symlinks=False)
    for what in (["--wheel"], []):  # without an option the wheel is built from the sdist
        command = [sys.executable, "-m", "uv", "build", *what, "--out-dir", str(folder / f"dist{''.join(what)}")]
        done = subprocess.run([*command, str(folder / "checkout")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (sdist,), (wheel,) = (folder / "dist").glob("*.tar.gz"), (folder / "dist--wheel").glob("*.whl")
    return Built(folder / "checkout", sdist, wheel, folder / "dist" / wheel.name)


@pytest.fixture(scope="session")
def wheel_python(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel, of this environment all other packages, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(built.wheel) as opened:
        opened.extractall(site)
    # Paths that this names are no site folders, so that the editable install there is not followed to the checkout.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of its own, and one thread, since tests run side by side."""
    return os.environ | {"EVALSVC_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@pytest.fixture
def evalsvc(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Run the command line in an empty folder, as a person would."""

    def run(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command line without waiting for it."""

    def start(*arguments: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*COMMAND, *arguments], cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True
        )

    # What runs the tests in the background may ignore Ctrl-C, and a process inherits that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield start
    signal.signal(signal.SIGINT, before)
