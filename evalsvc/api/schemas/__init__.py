"""What travels between server and client, as typed documents. Imports nothing of the service: both sides use it."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from evalsvc.core.names import SERVED

Item = TypeVar("Item")
ScopeName = Literal["read", "submit", "worker", "admin"]
EventName = Literal["evaluation.ended", "gate.decided"]
EVENTS: tuple[EventName, ...] = ("evaluation.ended", "gate.decided")

# Databases cannot store NUL, and nobody means a control character in a name.
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""Of a checkpoint: with what tells it from others it is longer than the name of its model."""
LongText = Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00-\x1f\x7f]+$")]
Reason = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digits = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8,64}$")]
SuiteName = Annotated[str, StringConstraints(max_length=110, pattern=r"^[a-z0-9][a-z0-9._-]{0,99}(@[1-9][0-9]{0,5})?$")]
Id = Annotated[int, Field(ge=1, lt=2**31)]
Whole = Annotated[int, Field(ge=0, lt=2**63)]


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _sound(value: Any, depth: int = 0) -> Any:
    """Refuse what no database stores: NUL, half characters, numbers that are none, nesting without end."""
    if depth > 20:
        raise ValueError("is nested more than 20 levels deep")
    if isinstance(value, str) and _UNSTORABLE.search(value):
        raise ValueError("holds a character that cannot be stored")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("holds a whole number of more than 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number that is not finite")
    if isinstance(value, dict):
        for key, each in value.items():
            _sound(key)
            _sound(each, depth + 1)
    if isinstance(value, list):
        for each in value:
            _sound(each, depth + 1)
    return value


Document = Annotated[dict[str, Any], AfterValidator(_sound)]
PolicyText = Document | Annotated[str, StringConstraints(max_length=65_536), AfterValidator(_sound)]


class _Response(BaseModel):
    """Clients accept fields that a newer server adds."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class _Request(BaseModel):
    """Servers refuse what they do not know: a misspelt field must not be lost."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Page(_Response, Generic[Item]):
    """Some of the items; ``next`` is the cursor of those that follow, and null on the last page."""

    items: list[Item]
    next: str | None = None


class FieldError(_Response):
    """One field that is wrong; ``pointer`` is a JSON pointer into the request."""

    pointer: str
    detail: str


class Problem(_Response):
    """An error as RFC 9457 writes it; ``detail`` is one sentence that says what to do.

    Where a name is ambiguous (``urn:evalsvc:problem:ambiguous-name``), each of ``choices`` names one checkpoint.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:evalsvc:problem:not-found",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "there is no checkpoint 'flow@7'; models are flow, gan",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []
    choices: list[str] = []


class Model(_Response):
    """A model under training."""

    name: str
    family: str
    checkpoints: int
    last_step: int | None
    evaluations: int
    created_at: datetime


class Checkpoint(_Response):
    """A model at one step, identified by the sha256 of its content, in one configuration of its generator.

    ``mark`` follows ``model@step`` in its name where others share that.
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


class Alias(_Response):
    """A name that points at a checkpoint; ``protected_by`` is the digest of the policy by which alone it moves."""

    name: str
    checkpoint: Checkpoint
    protected_by: str | None = None
    updated_at: datetime


class Promote(_Request):
    """Point an alias at a checkpoint.

    A protected alias moves by a gate that this checkpoint passed under the pinned policy; an admin may set it for the
    first time, or take it back to an earlier checkpoint with a ``reason``. Any other alias is moved by admins alone.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"checkpoint": "flow@4000", "gate": 12},
                {"checkpoint": "flow@2000", "reason": "users report artifacts"},
            ]
        }
    )

    checkpoint: Name
    gate: Id | None = None
    reason: Reason = ""


class Promotion(_Response):
    """When an alias was set, by whom and how; ``gate`` is the decision that allowed it."""

    id: int
    alias: str
    checkpoint: Checkpoint
    gate: int | None
    kind: Literal["first", "gate", "set", "rollback"]
    by: str
    reason: str
    created_at: datetime


class Protect(_Request):
    """Pin the policy by whose decisions alone an alias moves: the mapping of an ``evalsvc-gate.yaml``, or its text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "policy": {
                        "version": 1,
                        "suite": "digits@1",
                        "baseline": {"alias": "production"},
                        "metrics": {"frechet_distance": {"max_worsening": 2.0}},
                    }
                }
            ]
        }
    )

    policy: PolicyText


class Protection(_Response):
    """The policy by whose decisions alone an alias moves, as it was when it was pinned."""

    alias: str
    suite: str
    policy_digest: str
    policy: dict[str, Any]
    by: str
    created_at: datetime


class Suite(_Response):
    """What an evaluation does. ``body`` is the whole suite."""

    id: str
    description: str
    modality: str
    samples: int
    digest: str | None
    body: dict[str, Any]


class Reference(_Response):
    """A named, digested set of real samples."""

    name: str
    modality: str
    count: int
    digest: str
    heldout_count: int | None
    heldout_digest: str | None
    created_at: datetime


class Score(_Response):
    """One number with its uncertainty. Scores of different ``protocol`` are not comparable.

    ``independent`` counts the independent units that the error is of, and ``independent_unit`` says which: samples,
    prompts or documents; ``null`` of scores from before they were counted. ``mark`` follows ``model@step`` in the name
    of what was scored, where another checkpoint or configuration shares it.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "flow",
                    "family": "flow",
                    "step": 4000,
                    "digest": "9f2c1f7d" * 8,
                    "configuration": "5d1c90ab" * 8,
                    "checkpoint_id": 7,
                    "evaluation_id": 12,
                    "suite": "digits@1",
                    "position": 0,
                    "label": "frechet_distance",
                    "value": 25.17,
                    "stderr": 0.99,
                    "ci_low": 23.22,
                    "ci_high": 27.12,
                    "n": 2000,
                    "direction": "lower",
                    "unit": "squared feature units",
                    "stderr_method": "influence function, own noise taken off by halves",
                    "protocol": "1d5f290c8520883f",
                    "created_at": "2026-11-25T18:00:00Z",
                    "independent": 2000,
                    "independent_unit": "samples",
                    "mark": "",
                }
            ]
        }
    )

    model: str
    family: str
    step: int
    digest: str = ""
    configuration: str = ""
    checkpoint_id: int
    evaluation_id: int
    suite: str
    position: int
    label: str
    value: float
    stderr: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    direction: Literal["lower", "higher", "neutral"]
    unit: str
    stderr_method: str
    protocol: str
    created_at: datetime
    independent: int | None = None
    independent_unit: str | None = None
    mark: str = ""


class Protocol(_Response):
    """The facts that make two scores comparable."""

    id: str
    facts: dict[str, Any]


class Artifact(_Response):
    """A file that belongs to an evaluation."""

    id: int
    kind: str
    bytes: int
    digest: str


class Stage(_Response):
    """Samples, or items of the reference, of one stage of an evaluation."""

    done: int
    due: int


class Evaluation(_Response):
    """One checkpoint under one suite, and how far it is; ``by`` asked for it.

    ``mark`` follows ``model@step`` in the name of what is scored, where another checkpoint or configuration shares it.
    """

    id: int
    model: str
    step: int
    checkpoint_id: int = 0
    digest: str = ""
    configuration: str = ""
    mark: str = ""
    suite: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled", "superseded"]
    failure: Literal["infrastructure", "model", "out_of_memory", "timeout"] | None
    error: str | None
    attempt: int
    priority: int
    by: str = ""
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    stages: dict[str, Stage]
    fraction: float
    ended: bool


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


class Deadlines(_Request):
    """Seconds until an evaluation fails with ``timeout``: waiting for a worker, in one shard, in its metrics."""

    queued: Annotated[float, Field(gt=0, le=1e9)] | None = None
    shard: Annotated[float, Field(gt=0, le=1e9)] | None = None
    metrics: Annotated[float, Field(gt=0, le=1e9)] | None = None


class EvaluationCreate(_Request):
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
    options: Document = {}
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


class Upload(_Response):
    """A checkpoint file that the server took in."""

    digest: str
    name: str
    bytes: int


class Column(_Response):
    """One label under one protocol."""

    label: str
    protocol: str
    title: str
    direction: Literal["lower", "higher", "neutral"]


class Entry(_Response):
    """A checkpoint on a board; its rank is 1 + the number of entries that are surely better."""

    rank: int
    model: str
    family: str
    step: int
    checkpoint_id: int
    digest: str = ""
    mark: str = ""
    scores: list[Score]


class Board(_Response):
    """Ranks by one score under one protocol."""

    suite: str
    ranked_by: Column
    columns: list[Column]
    entries: list[Entry]


class Difference(_Response):
    """``b - a`` of one score with its 95 % interval; no number where the two are not comparable.

    Each side is the mean of all its runs (seeds). What both share (documents, prompts, the noise of a seed) is
    ``paired``; ``unpaired`` says why not. ``independent`` counts the independent units of the smaller side.
    """

    label: str
    a: Score | None
    b: Score | None
    difference: float | None
    stderr: float | None
    interval: tuple[float, float] | None
    paired: bool = False
    unpaired: str | None = None
    independent: int | None = None
    verdict: Literal["better", "worse", "unsure", "differs", "not comparable"]
    reason: str | None


class Comparison(_Response):
    """Two checkpoints, score by score."""

    suite: str
    a: str
    b: str
    differences: list[Difference]


class DecideGate(_Request):
    """Judge what is stored under a policy: the mapping of an ``evalsvc-gate.yaml``, or its text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "policy": {
                        "version": 1,
                        "suite": "digits@1",
                        "baseline": {"alias": "production"},
                        "metrics": {"frechet_distance": {"max_worsening": 2.0}},
                    },
                    "candidate": "flow@4000",
                }
            ]
        }
    )

    policy: PolicyText
    candidate: Name | None = None
    seed: Whole | None = None
    shadow: bool = False
    warn_only: bool = False


class Candidate(_Response):
    """Who was judged: the checkpoint ``checkpoint_id``, where there was one, which ``name`` tells from others."""

    model: str
    step: int | None
    digest: str
    checkpoint_id: int | None = None
    name: str = ""


class Gate(_Response):
    """A decision, asked for ``by`` a token or a user. It passes only where ``status`` is PASS.

    ``outcome`` is the status with whatever it must not be taken without: ``PASS (waived)``, ``FAIL (shadow)``.
    """

    id: int
    suite: str
    candidate: Candidate
    baseline: str
    status: Literal["PASS", "FAIL", "INCONCLUSIVE", "MISSING", "NOT_COMPARABLE", "ERROR"]
    outcome: str = ""
    reason: str
    exit_code: int
    shadow: bool
    policy_digest: str
    by: str = ""
    created_at: datetime


class GateDetail(Gate):
    """A decision with the evidence as it was, and apart from it the verdict."""

    policy: dict[str, Any]
    evidence: dict[str, Any]
    verdict: dict[str, Any]


class Worker(_Response):
    """A process that works for the queue, and what it is at."""

    id: str
    role: Literal["slot", "coordinator"]
    host: str
    pid: int
    device: str
    status: Literal["alive", "draining", "stopped", "lost"]
    started_at: datetime
    seen_at: datetime
    evaluation_id: int | None
    stage: str | None
    done: int


class Token(_Response):
    """What a bearer may do. The secret itself is stored nowhere."""

    id: int
    name: str
    scopes: list[ScopeName]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class TokenCreated(Token):
    """A token as it is made: its secret shows this once."""

    token: str


class TokenCreate(_Request):
    """Ask for a token; ``days`` until it ends."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "ci", "scopes": ["submit"], "days": 90}]})

    name: Text
    scopes: Annotated[list[ScopeName], Field(min_length=1, max_length=4)]
    days: Annotated[int, Field(ge=1, le=3650)] | None = 90


class Webhook(_Response):
    """An address that is told of events."""

    id: int
    url: str
    events: list[EventName]
    created_at: datetime
    failing_since: datetime | None
    last_error: str | None


class WebhookCreated(Webhook):
    """A webhook as it is made: the secret that signs its messages shows this once."""

    secret: str


class WebhookCreate(_Request):
    """Ask for messages to an address."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://ci.example.com/evalsvc", "events": ["gate.decided"]}]}
    )

    url: Annotated[LongText, StringConstraints(pattern=r"^https?://")]
    events: Annotated[list[EventName], Field(min_length=1, max_length=2)] = list(EVENTS)


class AuditEntry(_Response):
    """Who did what to what; ``request`` is the `x-request-id` of an action over HTTP."""

    id: int
    at: datetime
    actor_kind: Literal["token", "page", "user", "worker"]
    actor: str
    token_id: int | None
    address: str
    request: str
    action: str
    subject: str
    outcome: Literal["done", "unchanged", "refused"]
    detail: dict[str, str | int | float | bool | None]


class Health(_Response):
    """``ok``, or the server does not answer at all."""

    status: Literal["ok"] = "ok"


class About(_Response):
    """The server, and what the bearer of this token may do."""

    version: str
    token: str
    scopes: list[ScopeName]
