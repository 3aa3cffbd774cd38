"""The check and the benchmark on a machine with torch and no network, in one command.

    python3 benchmarks/gpu/bootstrap.py

Installs the wheels of build/gpu-wheels (`make gpu-wheels`) into a temporary folder and runs both from the working
tree, within ten minutes. Options go to the check (``--device``, ``--quick``, ``--only``, ``--budget``); results lie in
``$OUT``, by default build/gpu. The exit status is that of the first that fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WHEELS = ROOT / "build" / "gpu-wheels"
SECONDS = 540.0
"""After which the benchmark begins nothing more; its last line may need the rest of ten minutes."""
UNMET = """
import importlib.metadata as known
from packaging.requirements import Requirement
unmet = []
for each in map(Requirement, known.requires("evalsvc") or ()):
    if each.marker is not None and not each.marker.evaluate({"extra": ""}):
        continue
    try:
        version = known.version(each.name)
    except known.PackageNotFoundError:
        unmet.append(f"{each.name} is missing")
        continue
    if not each.specifier.contains(version, prereleases=True):
        unmet.append(f"{each.name} {version} is there, {each.specifier} is needed")
if unmet:
    raise SystemExit("bring installed.txt up to date and run `make gpu-wheels`: " + "; ".join(unmet))
"""


def main(arguments: list[str]) -> int:
    """Install, then run both parts; return the exit status."""
    start = time.monotonic()
    wheels = sorted(map(str, WHEELS.glob("*.whl")))
    if not wheels:
        raise SystemExit(f"there are no wheels in {WHEELS}: run `make gpu-wheels` where there is a network")
    with tempfile.TemporaryDirectory() as folder:
        pip = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
        subprocess.run([sys.executable, *pip, "--upgrade", "--target", folder, *wheels], check=True)
        # The tree comes first: the wheel of evalsvc is there for its entry points.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), folder]), "PYTHONUNBUFFERED": "1"}

        def run(*command: str) -> int:
            return subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=False).returncode

        unmet = run("-c", UNMET)
        statuses = [unmet] if unmet else [run("-m", "benchmarks.gpu.check", *arguments)]
        if not unmet and "--quick" not in arguments:
            statuses.append(run("-m", "benchmarks.gpu.bench", *_device(arguments), "--budget", _left(start)))
    return next(filter(None, statuses), 0)


def _left(start: float) -> str:
    """The seconds of the benchmark."""
    return str(max(0.0, SECONDS - (time.monotonic() - start)))


def _device(arguments: list[str]) -> list[str]:
    """The option that both parts take."""
    place = arguments.index("--device") if "--device" in arguments else None
    return [] if place is None else arguments[place : place + 2]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
