"""Gates: how a decision is asked for, and what was decided."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from evalsvc.api.schemas.common import Name, PolicyText, Request, Response, Whole


class GateOptions(Request):
    """Who is judged, and what the decision does; options of ``evalsvc gate run``."""

    candidate: str | None = Field(
        default=None, description="model@step, model, alias, digest, or a path, which is scored with --generator."
    )
    seed: Whole | None = Field(default=None, description="The candidate's sampling seed; by default the suite's.")
    shadow: bool = Field(default=False, description="Record the decision and end with 0.")
    warn_only: bool = Field(default=False, description="Failed and inconclusive gates end with 0.")


class DecideGate(GateOptions):
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
    candidate: Name | None = Field(
        default=None, description="model@step, model, alias or digest; by default the policy's."
    )


class Candidate(Response):
    """Who was judged: the checkpoint ``checkpoint_id``, where there was one, which ``name`` tells from others."""

    model: str
    step: int | None
    digest: str
    checkpoint_id: int | None = None
    name: str = ""


class Gate(Response):
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
