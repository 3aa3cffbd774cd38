"""Provenance of a result: versions, commit, device, time."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from typing import Any

from evalsvc.core.cost import energy_counter
from evalsvc.metrics.lazy_torch import torch

PACKAGES = ("evalsvc", "torch", "torchmetrics", "numpy", "scipy", "pillow")


def environment(device: torch.device, called: str, *, shared: bool) -> dict[str, Any]:
    """Facts about this process and machine that affect results; users call the device by another name than torch."""
    return {
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_commit": git_commit(),
        "device": called,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "energy_from": counter.source if not shared and (counter := energy_counter(device)) else None,
    }


def git_commit() -> str | None:
    """Commit of the working directory, with ``-dirty`` if files differ; ``None`` outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
