"""Gates: requests for decisions, and decisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from evalsvc.api.schemas.common import EXAMPLE_POLICY, Name, PolicyText, Request, Response, Whole


class GateOptions(Request):
    """The candidate and the effect of a decision; options of ``evalsvc gate run``."""

    candidate: str | None = Field(
        default=None, description="model@step, model, alias, digest, or a path, which is scored with --generator."
    )
    seed: Whole | None = Field(default=None, description="Sampling seed of the candidate; by default the suite's.")
    shadow: bool = Field(default=False, description="Record the decision and exit with 0.")
    warn_only: bool = Field(default=False, description="Exit with 0 for failed and inconclusive gates.")


class DecideGate(GateOptions):
    """Judge stored scores under a policy: the mapping of an ``evalsvc-gate.yaml``, or its text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "policy": EXAMPLE_POLICY,
                    "candidate": "flow@4000",
                }
            ]
        }
    )

    policy: PolicyText
    candidate: Name | None = Field(
        default=None, description="model@step, model, alias or digest; by default the policy's."
    )


class Candidate(Response):
    """The judged checkpoint: ``checkpoint_id`` if it exists, and its unambiguous ``name``."""

    model: str
    step: int | None
    digest: str
    checkpoint_id: int | None = None
    name: str = ""


class Gate(Response):
    """A decision, requested ``by`` a token or a user. It passed only if ``status`` is PASS.

    ``outcome`` is the status with its qualifiers, such as ``PASS (waived)`` or ``FAIL (shadow)``.
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
    """A decision with its evidence at that time, and separately the verdict."""

    policy: dict[str, Any]
    evidence: dict[str, Any]
    verdict: dict[str, Any]
