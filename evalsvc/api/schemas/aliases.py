"""Aliases: where they point, how they are moved, and what protects them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from evalsvc.api.schemas.common import Id, Name, PolicyText, Reason, Request, Response
from evalsvc.api.schemas.models import Checkpoint


class Alias(Response):
    """A name that points at a checkpoint; ``protected_by`` is the digest of the policy by which alone it moves."""

    name: str
    checkpoint: Checkpoint
    protected_by: str | None = None
    updated_at: datetime


class PromoteOptions(Request):
    """By what an alias is pointed at a checkpoint; options of ``evalsvc alias set``."""

    gate: Id | None = Field(default=None, description="A gate that this checkpoint has passed.")
    reason: Reason = Field(default="", description="Why; a protected alias goes back to an earlier checkpoint by it.")


class Promote(PromoteOptions):
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


class Promotion(Response):
    """When an alias was set, by whom and how; ``gate`` is the decision that allowed it."""

    id: int
    alias: str
    checkpoint: Checkpoint
    gate: int | None
    kind: Literal["first", "gate", "set", "rollback"]
    by: str
    reason: str
    created_at: datetime


class Protect(Request):
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


class Protection(Response):
    """The policy by whose decisions alone an alias moves, as it was when it was pinned."""

    alias: str
    suite: str
    policy_digest: str
    policy: dict[str, Any]
    by: str
    created_at: datetime
