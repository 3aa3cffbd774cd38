"""Aliases: their checkpoints, their moves, and their protection."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from evalsvc.api.schemas.common import EXAMPLE_POLICY, Id, Name, PolicyText, Reason, Request, Response
from evalsvc.api.schemas.models import Checkpoint


class Alias(Response):
    """A name that points to a checkpoint; ``protected_by`` is the digest of the policy that protects it."""

    name: str
    checkpoint: Checkpoint
    protected_by: str | None = None
    updated_at: datetime


class PromoteOptions(Request):
    """The grounds on which an alias is moved; options of ``evalsvc alias set``."""

    gate: Id | None = Field(default=None, description="Gate that this checkpoint has passed.")
    reason: Reason = Field(
        default="", description="Reason; required to move a protected alias back to an earlier checkpoint."
    )


class Promote(PromoteOptions):
    """Point an alias to a checkpoint.

    A protected alias moves by a gate that this checkpoint passed under the pinned policy. An admin may set it for the
    first time, or move it back to an earlier checkpoint with a ``reason``. Any other alias may be moved by admins only.
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


class Promotion(Response):
    """A move of an alias: its time, user and kind; ``gate`` is the decision that permitted it."""

    id: int
    alias: str
    checkpoint: Checkpoint
    gate: int | None
    kind: Literal["first", "gate", "set", "rollback"]
    by: str
    reason: str
    created_at: datetime


class Protect(Request):
    """Pin the policy whose decisions alone may move an alias: the mapping of an ``evalsvc-gate.yaml``, or its text."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"policy": EXAMPLE_POLICY}]})

    policy: PolicyText


class Protection(Response):
    """The policy whose decisions alone may move an alias, as it was pinned."""

    alias: str
    suite: str
    policy_digest: str
    policy: dict[str, Any]
    by: str
    created_at: datetime
