from __future__ import annotations

from datetime import date

import pytest

from evalsvc.gates.evidence import Evidence, Observation
from evalsvc.gates.policy import Policy, parse_policy
from evalsvc.gates.sequential import SINGLE, Look

ISSUE = """
version: 1
suite: digits@1
candidate: {model: flow, step: 4000}
baseline: {alias: production}
on_missing_baseline: fail
on_inconclusive: {more_samples: 4, then: fail}
defaults: {confidence: 0.95, min_samples: 1000, correction: holm}
metrics:
  frechet_distance: {max: 40, max_worsening: 2.0}
  recall:           {min: 0.6, max_worsening_rel: 0.05, tier: supporting}
  vendi:            {tier: advisory}
waivers: [{metric: recall, reason: "...", by: "...", expires: 2027-01-15}]
"""
TODAY = date(2026, 11, 22)
ONCE = Look(2000, 1, SINGLE)


def policy(metrics, **changes) -> Policy:
    body = {"version": 1, "suite": "s@1", "metrics": metrics, "baseline": {"alias": "production"}} | changes
    return Policy.model_validate(body)


def seen(value, stderr=0.1, n=2000, protocol="p", **facts) -> Observation:
    return Observation(value, stderr, stderr, n, protocol, facts)


def evidence(candidate, baseline=None, direction="lower", label="m", **more) -> Evidence:
    return Evidence(label, direction, candidate, baseline, **more)


@pytest.fixture
def issue_policy() -> Policy:
    return parse_policy(ISSUE)
