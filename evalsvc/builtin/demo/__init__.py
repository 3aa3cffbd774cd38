"""The demo: families of generative models on 8 x 8 digits, some of them class-conditional, with checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from evalsvc.inputs.checkpoint_steps import step_from_name

WEIGHTS = Path(__file__).with_name("weights")
BY_CLASS = "by-class"
"""Folder of ``WEIGHTS`` with the class-conditional models."""
PIPELINES = WEIGHTS / "pipelines"
"""Folder with the pipeline of diffusers, which the extra ``diffusers`` reads."""


LOST = 3
"""The class that the training data of one model lacked."""
WITHOUT = f"-without-{LOST}"
"""End of its name."""


class Shipped(NamedTuple):
    """A checkpoint that is part of the package."""

    family: str
    step: int
    path: Path

    @property
    def generator(self) -> str:
        """Name of its generator plug-in."""
        return self.family.removesuffix(WITHOUT)


def shipped() -> list[Shipped]:
    """All unconditional checkpoints of digits, by family and step."""
    return _in(WEIGHTS)


def shipped_by_class() -> list[Shipped]:
    """All class-conditional checkpoints of digits, by family and step."""
    return _in(WEIGHTS / BY_CLASS)


def _in(folder: Path) -> list[Shipped]:
    files = folder.glob("*/step_*.safetensors")
    return sorted(Shipped(path.parent.name, step_from_name(path) or 0, path) for path in files)
