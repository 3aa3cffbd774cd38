"""Wheels for a machine that has torch and no network: what evalsvc needs and the machine lacks, and evalsvc itself.

    python -m benchmarks.gpu.wheels

``installed.txt`` says what is there. The wheels lie in build/gpu-wheels, from where ``bootstrap.py`` installs them.
"""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "build" / "gpu-wheels"
LIMIT = 64 * 2**20
"""Bytes that travel with the working tree."""
EXTRAS = ("text", "worker")
"""Optional dependencies that parts of the check need."""
PYTHON = "3.12"
_PLATFORMS = ("28", "27", "24", "17")
_THERE = {"python_version": PYTHON, "sys_platform": "linux", "platform_machine": "x86_64"}


def main() -> int:
    """Collect the wheels; return the exit status."""
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    _run([sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(TARGET)])
    pins, present = resolved(), installed()
    lacking = set(pins) - set(present)
    while lacking:
        for name in sorted(lacking):
            _download(f"{name}=={pins[name]}")
        # What is carried may need another version of a package that is there, which is then carried too.
        lacking = unfit(present, [each for wheel in _wheels() for each in requirements(wheel)]) - _carried()
    size = sum(wheel.stat().st_size for wheel in _wheels())
    for wheel in _wheels():
        print(f"{wheel.stat().st_size / 2**20:6.1f} MiB  {wheel.name}")
    print(f"{size / 2**20:6.1f} MiB in {TARGET.relative_to(ROOT)} (at most {LIMIT // 2**20} MiB)")
    return int(size > LIMIT)


def resolved() -> dict[str, str]:
    """Versions of all dependencies by name, as ``constraints.txt`` fixes them for the machine."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "-q", "pyproject.toml", "-c", "constraints.txt"]
    command += ["--no-annotate", "--no-header", "--python-version", PYTHON]
    command += ["--python-platform", f"x86_64-manylinux_2_{_PLATFORMS[0]}"]
    command += [word for extra in EXTRAS for word in ("--extra", extra)]
    return dict(line.split("==") for line in _run(command).splitlines() if "==" in line)


def installed() -> dict[str, str]:
    """What the machine has: versions by name, empty where any is taken for right."""
    text = Path(__file__).with_name("installed.txt").read_text()
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def requirements(wheel: Path) -> list[Requirement]:
    """Of a wheel there, its own extras of :data:`EXTRAS` included."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        asked = email.message_from_bytes(opened.read(name)).get_all("Requires-Dist") or []
    own = EXTRAS if wheel.name.startswith("evalsvc-") else ()
    needed = map(Requirement, asked)
    return [
        each
        for each in needed
        if each.marker is None or any(each.marker.evaluate({**_THERE, "extra": extra}) for extra in ("", *own))
    ]


def unfit(present: Mapping[str, str], asked: Iterable[Requirement]) -> set[str]:
    """Names of packages that are there in a version that is not asked for."""
    named = ((canonicalize_name(each.name), each.specifier) for each in asked)
    return {name for name, allowed in named if present.get(name) and not allowed.contains(present[name], True)}


def _wheels() -> list[Path]:
    return sorted(TARGET.glob("*.whl"))


def _carried() -> set[str]:
    return {canonicalize_name(wheel.name.split("-")[0]) for wheel in _wheels()}


def _download(pin: str) -> None:
    platforms = [f"manylinux_2_{version}_x86_64" for version in _PLATFORMS] + ["manylinux2014_x86_64"]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(TARGET)]
    command += ["--python-version", PYTHON, "--implementation", "cp"]
    _run([*command, *(word for platform in platforms for word in ("--platform", platform)), pin])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[2:5])} failed: {done.stderr.strip()[-600:]}")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
