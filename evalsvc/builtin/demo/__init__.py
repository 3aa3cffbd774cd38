"""The demo: five families of generative models on 8 x 8 digits, with checkpoints from their training."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from evalsvc.inputs.checkpoint_steps import step_from_name

WEIGHTS = Path(__file__).with_name("weights")


class Shipped(NamedTuple):
    """A checkpoint that is part of the package."""

    family: str
    step: int
    path: Path


def shipped() -> list[Shipped]:
    """All checkpoints of the package, by family and step."""
    files = WEIGHTS.glob("*/step_*.safetensors")
    return sorted(Shipped(path.parent.name, step_from_name(path) or 0, path) for path in files)
