"""Evaluations: how they are asked for, and how far they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from evalsvc.api.schemas.common import (
    CliOption,
    Digest,
    Document,
    LongText,
    Name,
    Request,
    Response,
    SuiteName,
    Text,
    Whole,
)
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


Seconds = Annotated[float, Field(gt=0, le=1e9)]


class Deadlines(Request):
    """Seconds until an evaluation fails with ``timeout``: waiting for a worker, in one shard, in its metrics."""

    queued: Annotated[Seconds | None, CliOption("--queue-timeout")] = Field(
        default=None, description="Seconds to wait for a worker before it fails."
    )
    shard: Annotated[Seconds | None, CliOption("--shard-timeout")] = Field(
        default=None, description="Seconds that one shard may take."
    )
    metrics: Annotated[Seconds | None, CliOption("--metrics-timeout")] = Field(
        default=None, description="Seconds that the metrics may take."
    )


class EvaluationOptions(Request):
    """How a checkpoint is evaluated, whichever it is.

    A field here is an option of ``evalsvc submit``, on this machine and with ``--server``, and a parameter of
    ``Client.submit``; a test compares them.
    """

    generator: Text | None = Field(
        default=None, description="Generator plug-in that loads the checkpoint; an endpoint needs none."
    )
    suite: Annotated[
        str | Document, CliOption(help="Suite name, name@version, or a .yaml file of this machine.", default="digits")
    ] = Field(description="Name or name@version of a suite. A whole suite in its place takes scope admin.")
    reference: Text | None = Field(
        default=None, description="Reference, for a suite that leaves it open (fid50k, ...)."
    )
    model: Text | None = Field(default=None, description="Model name; by default the name of the checkpoint's folder.")
    step: Whole | None = Field(default=None, description="Training step; by default read from the checkpoint's name.")
    options: Annotated[Document, CliOption("--option", help="Generator option as key=value; JSON values work.")] = (
        Field(default={}, description="Options of the generator.")
    )
    seed: Whole | None = Field(default=None, description="Sampling seed; by default the suite's.")
    priority: Annotated[int, Field(ge=1, le=1000)] = Field(default=10, description="Lower ones go first.")
    deadlines: Deadlines = Field(default=Deadlines(), description="When the evaluation fails with `timeout`.")
    rerun: bool = Field(default=False, description="Compute again, and supersede what is stored.")
    skip_bad: bool = Field(
        default=False, description="Leave out images and sounds that cannot be read, and count them."
    )


class EvaluationCreate(EvaluationOptions):
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
    suite: SuiteName | Document = Field(
        description="Name or name@version of a suite. A whole suite in its place takes scope admin."
    )

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
        own = (self.generator, self.options, self.model, self.skip_bad, self.step is not None)
        if self.checkpoint is not None and any(own):
            raise ValueError("a known checkpoint has its model, step, generator and options: leave them out")
        return self
