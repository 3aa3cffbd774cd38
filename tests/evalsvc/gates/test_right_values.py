"""Limits on the distance from a right value."""

from dataclasses import replace

import pytest

from evalsvc.core.errors import InputError
from evalsvc.gates.first_policy import first_limits, policy_text
from evalsvc.gates.policy import MetricPolicy
from evalsvc.gates.resolution import labels_of
from evalsvc.gates.strictness import at_least_as_strict
from evalsvc.gates.verdict import Status, judge
from evalsvc.inputs.suites import load_suite
from tests.evalsvc.analysis.test_nearness import run

from .conftest import ONCE, TODAY, evidence, policy, seen

NEAR = {"m": {"max_distance_from_reference": 1.0}}


def verdict(value, target, stderr=0.1, target_stderr=0.1, **more):
    candidate = replace(seen(value, stderr), target=target, target_stderr=target_stderr, **more)
    found = judge(policy(NEAR), {"m": evidence(candidate, seen(value))}, ONCE, TODAY)
    return found.metrics[0].status


@pytest.mark.parametrize("side", [-1, 1])
def test_too_high_is_as_wrong_as_too_low_and_the_error_of_the_right_value_counts(side):
    assert verdict(10 + 0.5 * side, 10.0) is Status.PASS
    assert verdict(10 + 1.5 * side, 10.0) is Status.FAIL
    assert verdict(10 + 1.1 * side, 10.0) is Status.INCONCLUSIVE
    assert verdict(10 + 0.5 * side, 10.0, target_stderr=0.4) is Status.INCONCLUSIVE
    assert verdict(10.0, 10.0, stderr=0.6) is Status.INCONCLUSIVE


def test_without_a_right_value_a_limit_on_nearness_never_passes():
    assert verdict(10.0, None) is verdict(10.0, 10.0, target_stderr=None) is Status.MISSING


def test_a_policy_of_before_keeps_its_digest_and_a_nearer_limit_is_stricter():
    before = policy({"m": {"max_worsening": 1.0}})
    assert "max_distance_from_reference" not in before.model_dump(mode="json")["metrics"]["m"]
    assert MetricPolicy(max_distance_from_reference=2.0).limits == {"max_distance_from_reference": 2.0}
    near, far = policy(NEAR), policy({"m": {"max_distance_from_reference": 2.0}})
    same = {"m": "m"}
    assert at_least_as_strict(near, far, same, same)
    assert not at_least_as_strict(far, near, same, same)


def test_only_scores_with_a_right_value_have_a_distance_from_it():
    digits = load_suite("digits@1")
    for label in ("vendi", "ct_score"):
        assert labels_of(policy({label: {"max_distance_from_reference": 0.5}}), digits)
    for label in ("frechet_distance", "bits_per_dim_heldout"):
        with pytest.raises(InputError, match="no right value to be near to"):
            labels_of(policy({label: {"max_distance_from_reference": 0.5}}), digits)


def test_a_first_policy_limits_the_distance_where_there_is_a_right_value():
    digits = load_suite("digits@1")
    runs = {
        "frechet_distance": [run(10.0, 0.3, None)],
        "vendi_score": [run(30.0, 0.5, 32.0, 0.2)],
        "ct_score": [run(-3.0, 1.0, 0.0)],
    }
    limits = {each.label: each for each in first_limits(digits, runs)}
    assert limits["frechet_distance"].distance is None
    assert limits["vendi_score"].bound is limits["vendi_score"].margin is None
    assert 2.0 + 4 * 0.54 < limits["vendi_score"].distance < 2.0 + 6 * 0.54
    text = policy_text(digits, "{alias: production}", list(limits.values()), "told")
    assert f"vendi_score: {{max_distance_from_reference: {limits['vendi_score'].distance!r}, tier: supporting}}" in text
    assert "ct_score: {max_distance_from_reference:" in text
