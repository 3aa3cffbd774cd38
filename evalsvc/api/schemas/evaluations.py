"""Evaluations: how they are asked for, and how far they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from evalsvc.api.schemas.common import Digest, Document, LongText, Name, Request, Response, SuiteName, Text, Whole
from evalsvc.api.schemas.scores import Artifact, Score
from evalsvc.core import columns
from evalsvc.core.names import SERVED


class Stage(Response, columns.Stage):
    """Samples, or items of the reference, of one stage of an evaluation."""


class Evaluation(Response, columns.Progress):
    """One checkpoint under one suite, and how far it is; ``by`` asked for it.

    ``mark`` follows ``model@step`` in the name of what is scored, where another checkpoint or configuration shares it.
    """

    # Of what servers of before do not send; the others are those of columns.Progress.
    checkpoint_id: int = 0
    digest: str = ""
    configuration: str = ""
    mark: str = ""
    by: str = ""
    status: Literal["queued", "running", "succeeded", "failed", "cancelled", "superseded"]
    failure: Literal["infrastructure", "model", "out_of_memory", "timeout"] | None
    stages: dict[str, Stage]


class EvaluationDetail(Evaluation):
    """An evaluation with its scores and how they came about."""

    fingerprint: str
    seed: int | None
    scores: list[Score]
    artifacts: list[Artifact]
    provenance: dict[str, Any]
    device_seconds: float
    peak_memory: int | None
    energy: float | None


class Deadlines(Request):
    """Seconds until an evaluation fails with ``timeout``: waiting for a worker, in one shard, in its metrics."""

    queued: Annotated[float, Field(gt=0, le=1e9)] | None = None
    shard: Annotated[float, Field(gt=0, le=1e9)] | None = None
    metrics: Annotated[float, Field(gt=0, le=1e9)] | None = None


class EvaluationCreate(Request):
    """Ask for an evaluation of one checkpoint: a file or folder that the server sees, an upload, or one it knows; or of
    what an endpoint of the server file serves, by its name there.

    ``checkpoint`` is ``model@step``, a model, an alias or a digest; it brings its generator and options with it. A
    suite is named; a whole one in its place takes scope admin, because suites name files and code of the server.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"path": "/checkpoints/flow/step_4000.safetensors", "generator": "flow", "suite": "digits@1"},
                {"checkpoint": "flow@4000", "suite": "digits@1", "seed": 7, "priority": 5},
                {"endpoint": "llama", "suite": "text-tiny@1"},
            ]
        }
    )

    path: LongText | None = None
    upload: Digest | None = None
    checkpoint: Name | None = None
    endpoint: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = None
    generator: Text | None = None
    options: Document = Field(default={})
    model: Text | None = None
    step: Whole | None = None
    suite: SuiteName | Document
    reference: Text | None = None
    seed: Whole | None = None
    priority: Annotated[int, Field(ge=1, le=1000)] = 10
    deadlines: Deadlines = Deadlines()
    rerun: bool = False

    @model_validator(mode="after")
    def _one_checkpoint(self) -> EvaluationCreate:
        if sum(each is not None for each in (self.path, self.upload, self.checkpoint, self.endpoint)) != 1:
            raise ValueError("give exactly one of path, upload, checkpoint and endpoint")
        if self.endpoint is not None and self.generator not in (None, SERVED):
            raise ValueError(f"an endpoint is evaluated by generator {SERVED!r}: leave 'generator' out")
        if self.checkpoint is None and self.endpoint is None and self.generator is None:
            raise ValueError("generator is missing: name the plug-in that loads the checkpoint")
        if self.upload is not None and self.model is None:
            raise ValueError("model is missing: an upload has no folder that names it")
        if self.checkpoint is not None and (self.generator or self.options or self.model or self.step is not None):
            raise ValueError("a known checkpoint has its model, step, generator and options: leave them out")
        return self
