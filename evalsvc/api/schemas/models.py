"""Models, their checkpoints, and uploads."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ConfigDict

from evalsvc.api.schemas.common import Response


class Model(Response):
    """A model under training."""

    name: str
    family: str
    checkpoints: int
    last_step: int | None
    evaluations: int
    created_at: datetime


class Checkpoint(Response):
    """A model at one step, identified by the sha256 of its content, in one configuration of its generator.

    ``mark`` follows ``model@step`` in its name if others share that label.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 7,
                    "model": "flow",
                    "step": 4000,
                    "digest": "9f2c1f7d" * 8,
                    "path": "/models/flow/step_4000.safetensors",
                    "generator": "flow",
                    "generator_version": "evalsvc 0.1.0",
                    "options": {},
                    "configuration": "5d1c90ab" * 8,
                    "mark": "",
                    "created_at": "2026-11-25T18:00:00Z",
                }
            ]
        }
    )

    id: int
    model: str
    step: int
    digest: str
    path: str
    generator: str
    generator_version: str = ""
    options: dict[str, Any]
    configuration: str = ""
    mark: str = ""
    created_at: datetime


class Upload(Response):
    """A checkpoint file that was uploaded."""

    digest: str
    name: str
    bytes: int
