import math
from dataclasses import replace
from datetime import date, timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsvc.gates.evidence import Absent, Evidence, Observation
from evalsvc.gates.policy import Policy
from evalsvc.gates.sequential import Look, plan
from evalsvc.gates.verdict import Status, judge

from .conftest import ONCE, TODAY, evidence, policy, seen

LIMITS = {"absolute": {"max": 40.0}, "worsening": {"max_worsening": 2.0}, "relative": {"max_worsening_rel": 0.1}}
GOOD, BASE = seen(20), seen(20)
NO_BASELINE = Absent("none", "there is no alias 'production'")
TROUBLES = {
    "value missing": evidence(Absent("missing", "no such score"), BASE),
    "NaN": evidence(seen(math.nan), BASE),
    "NaN error": evidence(seen(20, math.nan), BASE),
    "infinite": evidence(seen(-math.inf), BASE),
    "too few samples": evidence(seen(20, n=999), BASE),
    "no samples": evidence(seen(20, n=0), BASE),
    "no error bar": evidence(seen(20, None), BASE),
    "empty database": None,
    "worker died": evidence(Absent("error", "worker died"), BASE),
    "timeout": evidence(Absent("unavailable", "no answer in 60 s"), BASE),
}
COMPARED = {
    "other protocol": evidence(GOOD, seen(20, protocol="q", samples=1000)),
    "no baseline": evidence(GOOD, NO_BASELINE),
    "baseline lacks the metric": evidence(GOOD, Absent("missing", "production has no m")),
    "baseline NaN": evidence(GOOD, seen(math.nan)),
    "baseline infinite": evidence(GOOD, seen(math.inf)),
    "baseline of few samples": evidence(GOOD, seen(20, n=50)),
    "baseline without error": evidence(GOOD, seen(20, None)),
}
EXPECTED = {
    "value missing": (Status.MISSING, 5),
    "NaN": (Status.ERROR, 1),
    "NaN error": (Status.ERROR, 1),
    "infinite": (Status.ERROR, 1),
    "too few samples": (Status.MISSING, 5),
    "no samples": (Status.ERROR, 1),
    "no error bar": (Status.INCONCLUSIVE, 4),
    "empty database": (Status.MISSING, 5),
    "worker died": (Status.ERROR, 1),
    "timeout": (Status.ERROR, 6),
    "other protocol": (Status.NOT_COMPARABLE, 7),
    "no baseline": (Status.MISSING, 5),
    "baseline lacks the metric": (Status.MISSING, 5),
    "baseline NaN": (Status.ERROR, 1),
    "baseline infinite": (Status.ERROR, 1),
    "baseline of few samples": (Status.MISSING, 5),
    "baseline without error": (Status.INCONCLUSIVE, 4),
}
CASES = [
    (trouble, limit, tier) for trouble, limit, tier in product(EXPECTED, LIMITS, ("critical", "supporting", "advisory"))
]


@pytest.mark.parametrize(("trouble", "limit", "tier"), CASES)
def test_nothing_passes_that_should_not(trouble, limit, tier):
    """One metric in trouble beside one that surely holds."""
    troubled = {**TROUBLES, **COMPARED}[trouble]
    gate = policy({"m": {**LIMITS[limit], "tier": tier}, "sound": {"max": 30}})
    found = {"sound": evidence(GOOD, BASE, label="sound")} | ({"m": troubled} if troubled else {})
    verdict = judge(gate, found, ONCE, TODAY)
    metric = next(each for each in verdict.metrics if each.label == "m")
    status, code = EXPECTED[trouble]
    if limit == "absolute" and trouble in COMPARED:  # an absolute limit asks for no baseline
        assert metric.status is Status.PASS
    else:
        assert metric.status is status
    blocks = metric.status is not Status.PASS and (
        tier == "critical" or (tier == "supporting" and metric.status is not Status.INCONCLUSIVE)
    )
    assert verdict.status is (status if blocks else Status.PASS)
    assert verdict.exit_code(gate) == (code if blocks else 0)
    soft = Status.INCONCLUSIVE if blocks else Status.PASS
    assert verdict.exit_code(gate, warn_only=True) == (0 if verdict.status is soft else code)
    if metric.status is not Status.PASS:
        assert metric.reason
        assert metric.blocks is blocks


@pytest.mark.parametrize(("trouble", "limit"), list(product(EXPECTED, LIMITS)))
def test_a_gate_whose_only_metric_is_in_trouble_never_passes(trouble, limit):
    troubled = {**TROUBLES, **COMPARED}[trouble]
    gate = policy({"m": LIMITS[limit]})
    verdict = judge(gate, {"m": troubled} if troubled else {}, ONCE, TODAY)
    if limit == "absolute" and trouble in COMPARED:
        assert verdict.exit_code(gate) == 0
    else:
        assert verdict.status is EXPECTED[trouble][0]
        assert verdict.exit_code(gate) == EXPECTED[trouble][1]


@pytest.mark.parametrize(("limit", "tier"), list(product(LIMITS, ("critical", "supporting"))))
def test_a_waiver_lets_a_failure_through_until_its_day_ends_and_never_a_hole(limit, tier):
    waiver = {"metric": "m", "reason": "known", "by": "ada", "expires": TODAY}
    gate = policy({"m": {**LIMITS[limit], "tier": tier}, "sound": {"max": 30}}, waivers=[waiver])
    bad = {"m": evidence(seen(90), BASE), "sound": evidence(GOOD, BASE)}
    assert judge(gate, bad, ONCE, TODAY).exit_code(gate) == 0
    assert any("waived by ada" in warning for warning in judge(gate, bad, ONCE, TODAY).warnings)
    expired = judge(gate, bad, ONCE, TODAY + timedelta(days=1))
    assert expired.exit_code(gate) == 3
    assert any("expired" in warning for warning in expired.warnings)
    for trouble in ("value missing", "NaN", "worker died", "timeout", "too few samples"):
        holed = bad | {"m": TROUBLES[trouble]}
        assert judge(gate, holed, ONCE, TODAY).exit_code(gate) == EXPECTED[trouble][1]


def test_when_all_that_could_decide_is_waived_nothing_was_decided():
    gate = policy({"m": {"max": 1}}, waivers=[{"metric": "m", "reason": "r", "by": "b", "expires": TODAY}])
    assert judge(gate, {"m": evidence(seen(90))}, ONCE, TODAY).exit_code(gate) == 5


@pytest.mark.parametrize("direction", ["lower", "higher"])
def test_sure_and_unsure_worsening_in_either_direction(direction):
    gate = policy({"m": {"max_worsening": 2.0}})
    sign = 1 if direction == "lower" else -1

    def status(worsening, stderr):
        found = evidence(seen(20 + sign * worsening, stderr), seen(20, stderr), direction)
        return judge(gate, {"m": found}, ONCE, TODAY).status

    assert status(0, 0.1) is Status.PASS
    assert status(-50, 0.1) is Status.PASS
    assert status(2.5, 0.1) is Status.FAIL
    assert status(2.1, 0.1) is Status.INCONCLUSIVE
    assert status(1.9, 0.1) is Status.INCONCLUSIVE
    assert status(0, 5) is Status.INCONCLUSIVE


@pytest.mark.parametrize("direction", ["lower", "higher"])
@given(st.floats(0.5, 2), st.floats(0.01, 0.1), st.floats(0.01, 0.1), st.floats(0, 0.5))
@settings(max_examples=60, deadline=None)
def test_the_relative_verdict_is_that_of_fiellers_interval(direction, ratio, error_c, error_b, limit):
    gate = policy({"m": {"max_worsening_rel": limit}})
    found = evidence(seen(10 * ratio, 10 * error_c), seen(10, 10 * error_b), direction)
    [metric] = judge(gate, {"m": found}, ONCE, TODAY).metrics
    compared = metric.findings[0].comparison
    assert compared.low <= compared.estimate <= compared.high
    inside = limit - compared.low, limit - compared.high
    if min(abs(inside[0]), abs(inside[1])) > 1e-9:
        expected = Status.FAIL if inside[0] < 0 else Status.PASS if inside[1] > 0 else Status.INCONCLUSIVE
        assert metric.status is expected


def test_a_share_of_a_baseline_that_may_be_zero_is_never_judged():
    gate = policy({"m": {"max_worsening_rel": 0.1}})
    for base in (seen(0.1, 0.1), seen(-3, 0.1), seen(0, 0.0)):
        assert judge(gate, {"m": evidence(seen(5), base)}, ONCE, TODAY).status is Status.INCONCLUSIVE


def test_a_run_against_itself_is_exactly_equal():
    gate = policy({"m": {"max_worsening": 0.1}})
    found = evidence(seen(20.0, 1.0), seen(20.0, 1.0))
    assert judge(gate, {"m": found}, ONCE, TODAY).status is Status.INCONCLUSIVE
    assert judge(gate, {"m": replace(found, same=True)}, ONCE, TODAY).status is Status.PASS


def test_more_limits_make_failing_harder_and_holm_gives_the_level_back():
    def statuses(values, **defaults):
        gate = policy({name: {"max": 0.0} for name in values}, defaults=defaults)
        found = {name: evidence(seen(value, 1.0), label=name) for name, value in values.items()}
        return [metric.status for metric in judge(gate, found, ONCE, TODAY).metrics]

    assert statuses({"a": 2.1}) == [Status.FAIL]
    assert statuses({"a": 2.1, "b": 0.0}) == [Status.INCONCLUSIVE] * 2
    assert statuses({"a": 2.1, "b": 2.3}) == [Status.FAIL] * 2, "once b is rejected, a has the whole level"
    assert statuses({"a": 2.1, "b": 0.0}, correction="none") == [Status.FAIL, Status.INCONCLUSIVE]


def test_advisory_metrics_take_no_share_of_the_level_and_never_block():
    gate = policy({"m": {"max": 0.0}, "a": {"max": 0.0, "tier": "advisory"}, "seen": {"tier": "advisory"}})
    found = {"m": evidence(seen(2.1, 1.0)), "a": evidence(seen(9, 1.0), label="a"), "seen": evidence(seen(1))}
    verdict = judge(gate, found, ONCE, TODAY)
    assert [metric.status for metric in verdict.metrics] == [Status.FAIL, Status.FAIL, Status.UNKNOWN]
    better = judge(gate, found | {"m": evidence(seen(-3, 1.0))}, ONCE, TODAY)
    assert better.exit_code(gate) == 0
    assert any(warning.startswith("a is FAIL and only advisory") for warning in better.warnings)


@pytest.mark.parametrize(
    ("choice", "critical", "code"), [("fail", True, 5), ("inconclusive", True, 4), ("absolute-only", True, 5)]
)
def test_without_a_baseline_a_metric_with_no_absolute_limit_never_passes(choice, critical, code):
    gate = policy({"m": {"max_worsening": 1}, "sound": {"max": 30}}, on_missing_baseline=choice)
    found = {"m": evidence(GOOD, NO_BASELINE), "sound": evidence(GOOD, NO_BASELINE)}
    assert judge(gate, found, ONCE, TODAY).exit_code(gate) == code


def test_absolute_only_judges_by_absolute_limits_where_there_is_no_baseline():
    gate = policy({"m": {"max": 30, "max_worsening": 1}}, on_missing_baseline="absolute-only")
    assert judge(gate, {"m": evidence(GOOD, NO_BASELINE)}, ONCE, TODAY).status is Status.PASS
    assert judge(gate, {"m": evidence(seen(50), NO_BASELINE)}, ONCE, TODAY).status is Status.FAIL
    other = evidence(GOOD, seen(20, protocol="q"))
    assert judge(gate, {"m": other}, ONCE, TODAY).status is Status.NOT_COMPARABLE


def test_what_was_not_judged_outweighs_what_failed_so_that_warn_only_hides_no_hole():
    gate = policy({"a": {"max": 1}, "b": {"max": 1}})
    found = {"a": evidence(seen(9)), "b": evidence(Absent("missing", "gone"))}
    verdict = judge(gate, found, ONCE, TODAY)
    assert verdict.exit_code(gate) == verdict.exit_code(gate, warn_only=True) == 5


def test_an_inconclusive_gate_warns_only_where_the_policy_says_so():
    metrics = {"m": {"max": 20}}
    for then, code in (("fail", 4), ("warn", 0)):
        gate = policy(metrics, on_inconclusive={"then": then})
        assert judge(gate, {"m": evidence(GOOD)}, ONCE, TODAY).exit_code(gate) == code
        assert judge(gate, {"m": evidence(seen(90))}, ONCE, TODAY).exit_code(gate) == 3
        assert judge(gate, {}, ONCE, TODAY).exit_code(gate) == 5


@pytest.mark.parametrize("limits", [{"max": 40}, {"max_worsening": 10}, {"max_worsening_rel": 0.5}])
def test_a_part_of_the_samples_passes_nothing_whose_expectation_moves_and_fails_beyond_the_drift_of_each_side(limits):
    gate = policy({"m": limits})
    early = plan(2000)[0]

    def status(value, mine, theirs, *, moves=True):
        candidate, base = (replace(seen(at, 0.1, n=1500), drift=by) for at, by in ((value, mine), (20, theirs)))
        found = evidence(candidate, base, partial=moves)
        return judge(gate, {"m": found}, early, TODAY, final=False).status

    compares = "max" not in limits
    assert status(5, 0.0, 0.0) is Status.INCONCLUSIVE
    assert status(5, 0.0, 0.0, moves=False) is Status.PASS
    assert status(60, 0.0, 0.0) is Status.FAIL
    assert status(60, 45.0, 0.0) is Status.INCONCLUSIVE
    assert status(60, 0.0, 45.0) is (Status.INCONCLUSIVE if compares else Status.FAIL)
    assert status(60, 9.0, 9.0) is Status.FAIL
    assert status(60, None, 0.0) is Status.INCONCLUSIVE
    assert status(60, 0.0, None) is (Status.INCONCLUSIVE if compares else Status.FAIL)


def test_few_samples_may_fail_early_but_never_pass():
    gate = policy({"m": {"max": 40}})
    early = plan(2000)[0]
    few = evidence(seen(5, 0.1, n=200))
    assert judge(gate, {"m": few}, early, TODAY, final=False).status is Status.INCONCLUSIVE
    assert judge(gate, {"m": few}, early, TODAY).status is Status.MISSING
    assert judge(gate, {"m": evidence(seen(90, 0.1, n=200))}, early, TODAY, final=False).status is Status.FAIL
    assert judge(gate, {"m": evidence(seen(90, 0.1, n=99))}, ONCE, TODAY).status is Status.MISSING


def test_one_run_a_side_warns_that_seeds_are_not_counted():
    gate = policy({"m": {"max": 30}})
    alone = judge(gate, {"m": evidence(GOOD)}, ONCE, TODAY)
    repeated = judge(gate, {"m": evidence(replace(GOOD, replicates=3))}, ONCE, TODAY)
    assert any("not between seeds" in warning for warning in alone.warnings)
    assert repeated.warnings == ()


numbers = st.one_of(st.floats(-100, 100), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e308, -1e308]))
errors = st.one_of(st.none(), st.floats(0, 10), st.sampled_from([math.nan, math.inf]))
observations = st.builds(
    Observation,
    numbers,
    errors,
    errors,
    st.sampled_from([0, 5, 99, 100, 999, 1000, 5000]),
    st.sampled_from(["p", "q"]),
    replicates=st.integers(1, 3),
    spread=st.sampled_from([0.0, 0.3, math.nan]),
    drift=st.one_of(st.none(), st.floats(0, 10), st.just(math.nan)),
)
absences = st.builds(Absent, st.sampled_from(["none", "missing", "error", "unavailable"]), st.just("why"))
sides = st.one_of(observations, absences)
evidences = st.builds(
    Evidence,
    st.just("m"),
    st.sampled_from(["lower", "higher", "neutral"]),
    sides,
    st.one_of(st.none(), sides),
    partial=st.booleans(),
)
limits = st.fixed_dictionaries(
    {},
    optional={
        "max": st.floats(0, 50),
        "min": st.floats(-50, 0),
        "max_worsening": st.floats(0, 10),
        "max_worsening_rel": st.floats(0, 0.9),
    },
).filter(bool)
tiers = st.sampled_from(["critical", "supporting", "advisory"])
NAMES = ("m", "n", "o")
policies = st.builds(
    lambda limits, tiers, missing, then, confidence, waived: policy(
        {name: {**each, "tier": tier} for name, each, tier in zip(NAMES, limits, ("critical", *tiers), strict=True)},
        on_missing_baseline=missing,
        on_inconclusive={"then": then},
        defaults={"confidence": confidence},
        waivers=[
            {"metric": name, "reason": "r", "by": "b", "expires": TODAY + timedelta(days)} for name, days in waived
        ],
    ),
    st.tuples(limits, limits, limits),
    st.tuples(tiers, tiers),
    st.sampled_from(["fail", "absolute-only", "inconclusive"]),
    st.sampled_from(["fail", "warn"]),
    st.floats(0.6, 0.999),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([-1, 0, 1])), max_size=2),
)


def surely_holds(gate: Policy, name: str, found: Evidence) -> bool:
    """Whether a metric may count as passed, said anew from the definitions and without the error bars."""
    side, base = found.candidate, found.baseline
    if found.partial and gate.metrics[name].limits:
        return False
    if not isinstance(side, Observation) or side.n < gate.defaults.min_samples or not math.isfinite(side.value):
        return False
    if side.below is None or side.above is None or not math.isfinite(side.below + side.above):
        return False
    sign = {"lower": 1, "higher": -1, "neutral": 0}[found.direction]
    for kind, limit in gate.metrics[name].limits.items():
        if kind in ("max", "min"):
            if (side.value > limit) if kind == "max" else (side.value < limit):
                return False
            continue
        if (isinstance(base, Absent) and base.kind == "none") or base is None:
            if gate.on_missing_baseline != "absolute-only":
                return False
            continue
        if not isinstance(base, Observation) or base.protocol != side.protocol or base.n < gate.defaults.min_samples:
            return False
        if not math.isfinite(base.value) or sign == 0:
            return False
        allowed = limit if kind == "max_worsening" else limit * base.value
        if sign * (side.value - base.value) > allowed * (1 + 1e-12) + 1e-12:
            return False
    return True


@given(policies, st.dictionaries(st.sampled_from(NAMES), evidences), st.booleans())
@settings(max_examples=250, deadline=None)
def test_no_policy_and_no_scores_pass_by_accident(gate, found, final):
    verdict = judge(gate, found, ONCE, TODAY, final=final)
    assert verdict.status is not Status.UNKNOWN
    waived = {each.metric for each in gate.waivers if each.expires >= TODAY}
    for metric in verdict.metrics:
        if metric.status is Status.PASS:
            assert metric.label in found
            assert surely_holds(gate, metric.label, found[metric.label])
        if metric.waiver:
            assert metric.label in waived
            assert metric.status in (Status.FAIL, Status.INCONCLUSIVE)
    if verdict.status is Status.PASS:
        assert any(m.status is Status.PASS and m.tier == "critical" for m in verdict.metrics)
        for metric in verdict.metrics:
            settled = metric.status is Status.PASS or metric.waiver or metric.tier == "advisory"
            assert settled or (metric.tier == "supporting" and metric.status is Status.INCONCLUSIVE)
    allowed = {Status.PASS} | ({Status.INCONCLUSIVE} if gate.on_inconclusive.then == "warn" else set())
    assert (verdict.exit_code(gate) == 0) == (verdict.status in allowed)
    softer = allowed | {Status.FAIL, Status.INCONCLUSIVE}
    assert (verdict.exit_code(gate, warn_only=True) == 0) == (verdict.status in softer)


@given(st.floats(-50, 50), st.floats(0.01, 5), st.floats(0, 20), st.sampled_from([0.0, 0.5, 3.0]))
@settings(max_examples=200, deadline=None)
def test_a_better_candidate_never_gets_a_worse_verdict(value, stderr, limit, gain):
    gate = policy({"m": {"max_worsening": limit, "max": 30}})
    order = [Status.FAIL, Status.INCONCLUSIVE, Status.PASS]

    def rank(at):
        return order.index(judge(gate, {"m": evidence(seen(at, stderr), seen(0, stderr))}, ONCE, TODAY).status)

    assert rank(value - gain) >= rank(value)


def test_a_verdict_needs_no_clock_of_its_own():
    gate = policy({"m": {"max": 1}}, waivers=[{"metric": "m", "reason": "r", "by": "b", "expires": date(2020, 1, 1)}])
    found = {"m": evidence(seen(9))}
    assert judge(gate, found, ONCE, date(2019, 12, 1)).exit_code(gate) == 5
    assert judge(gate, found, ONCE, date(2019, 1, 1)).exit_code(gate) == 3, "its end is more than 90 days ahead"
    assert judge(gate, found, Look(2000, 1, (1.0,)), date(2021, 1, 1)).exit_code(gate) == 3
