"""Evaluations: how they are submitted, and their progress."""

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
    """Progress of one stage of an evaluation, in samples or items of the reference."""


class Evaluation(Response, columns.Progress):
    """One checkpoint under one suite, with its progress; ``by`` is the user who submitted it.

    ``mark`` follows ``model@step`` in the name if another checkpoint or configuration shares it.
    """

    # Fields that older servers do not send; the others are those of columns.Progress.
    checkpoint_id: int = 0
    digest: str = ""
    configuration: str = ""
    mark: str = ""
    by: str = ""
    status: Literal["queued", "running", "succeeded", "failed", "cancelled", "superseded"]
    failure: Literal["infrastructure", "model", "out_of_memory", "timeout"] | None
    stages: dict[str, Stage]


class EvaluationDetail(Evaluation):
    """An evaluation with its scores and their provenance."""

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
    """Time limits in seconds, after which an evaluation fails with ``timeout``: waiting for a worker, one shard, the
    metrics.
    """

    queued: Annotated[Seconds | None, CliOption("--queue-timeout")] = Field(
        default=None, description="Time limit in seconds for waiting for a worker."
    )
    shard: Annotated[Seconds | None, CliOption("--shard-timeout")] = Field(
        default=None, description="Time limit in seconds for one shard."
    )
    metrics: Annotated[Seconds | None, CliOption("--metrics-timeout")] = Field(
        default=None, description="Time limit in seconds for the metrics."
    )


class EvaluationOptions(Request):
    """The settings of an evaluation, independent of its checkpoint.

    Each field is an option of ``evalsvc submit``, with and without ``--server``, and a parameter of ``Client.submit``;
    a test compares them.
    """

    generator: Text | None = Field(
        default=None, description="Generator plug-in that loads the checkpoint; an endpoint needs none."
    )
    suite: Annotated[
        str | Document, CliOption(help="Suite name, name@version, or a local .yaml file.", default="digits")
    ] = Field(description="Name or name@version of a suite. A complete suite instead requires scope admin.")
    reference: Text | None = Field(default=None, description="Reference, for suites that require one (fid50k, ...).")
    model: Text | None = Field(default=None, description="Model name; by default the name of the checkpoint's folder.")
    step: Whole | None = Field(default=None, description="Training step; by default inferred from the name.")
    options: Annotated[Document, CliOption("--option", help="Generator option as key=value; JSON values work.")] = (
        Field(default={}, description="Options of the generator.")
    )
    seed: Whole | None = Field(default=None, description="Sampling seed; by default the suite's.")
    priority: Annotated[int, Field(ge=1, le=1000)] = Field(default=10, description="Priority; lower numbers run first.")
    deadlines: Deadlines = Field(default=Deadlines(), description="Time limits; exceeding one is a `timeout`.")
    rerun: bool = Field(default=False, description="Compute again, superseding stored scores.")
    skip_bad: bool = Field(
        default=False, description="Skip images and audio files that cannot be read, and count them."
    )


class EvaluationCreate(EvaluationOptions):
    """Submit an evaluation of one checkpoint: a file or folder on the server, an upload, a known checkpoint, or a model
    served by an endpoint of the server file.

    ``checkpoint`` is ``model@step``, a model, an alias or a digest; its generator and options are reused. ``suite`` is
    a name; a complete suite instead requires scope admin, because suites can refer to files and code of the server.
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
        description="Name or name@version of a suite. A complete suite instead requires scope admin."
    )

    @model_validator(mode="after")
    def _one_checkpoint(self) -> EvaluationCreate:
        if sum(each is not None for each in (self.path, self.upload, self.checkpoint, self.endpoint)) != 1:
            raise ValueError("pass exactly one of path, upload, checkpoint and endpoint")
        if self.endpoint is not None and self.generator not in (None, SERVED):
            raise ValueError(f"an endpoint always uses generator {SERVED!r}: remove 'generator'")
        if self.checkpoint is None and self.endpoint is None and self.generator is None:
            raise ValueError("generator is missing: pass the plug-in that loads the checkpoint")
        if self.upload is not None and self.model is None:
            raise ValueError("model is missing: pass it, because an upload has no folder to infer it from")
        own = (self.generator, self.options, self.model, self.skip_bad, self.step is not None)
        if self.checkpoint is not None and any(own):
            raise ValueError("a known checkpoint already has a model, step, generator and options: remove these fields")
        return self
