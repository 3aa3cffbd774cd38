import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from evalsvc.analysis.differences import Run
from evalsvc.gates.comparisons import uncertainty, worsening
from evalsvc.gates.evidence import Evidence, Observation, drift, pool
from evalsvc.gates.sequential import FLOOR, boundaries, later_plan, plan, spent
from evalsvc.gates.verdict import Status, judge

from .conftest import TODAY, policy

GATES = 2000


@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.005])
def test_a_single_look_is_the_quantile_of_the_normal_law(alpha):
    assert boundaries(alpha, (1.0,)) == pytest.approx((norm.isf(alpha),), abs=1e-10)


@pytest.mark.parametrize("alpha", [0.05, 0.025 / 3])
@pytest.mark.parametrize("fractions", [(0.1, 0.5, 1.0), (0.025, 0.125, 0.25, 0.5, 1.0), (0.5, 0.6)])
def test_the_boundaries_spend_the_level_by_scipys_multivariate_normal(alpha, fractions):
    limits = boundaries(alpha, fractions)
    law = [[math.sqrt(min(s, t) / max(s, t)) for t in fractions] for s in fractions]
    for k in range(1, len(fractions) + 1):
        covariance = np.array(law)[:k, :k]
        inside = multivariate_normal.cdf(limits[:k], np.zeros(k), covariance, rng=1, abseps=1e-5, releps=1e-5)
        assert 1 - inside == pytest.approx(spent(alpha, fractions[k - 1]), abs=2e-5)


def test_five_equal_looks_are_those_of_the_literature():
    # Jennison and Turnbull, Group Sequential Methods (2000), and gsDesign's sfLDPocock, one-sided 0.025.
    published = (2.438, 2.427, 2.410, 2.397, 2.386)
    assert boundaries(0.025, (0.2, 0.4, 0.6, 0.8, 1.0)) == pytest.approx(published, abs=6e-4)


@given(st.integers(1, 50_000), st.integers(1, 16), st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_every_plan_ends_with_all_that_may_be_spent_and_grows_to_it(samples, more, have):
    looks = plan(samples, more, have)
    sizes = [look.samples * look.replicates for look in looks]
    assert sizes == sorted(set(sizes))
    assert (looks[-1].samples, looks[-1].replicates) == (samples, max(more, have))
    assert looks[-1].fractions[-1] == 1
    assert all(look.samples >= min(FLOOR, samples) for look in looks)
    assert all(look.replicates >= have for look in looks)


@given(st.integers(1, 16), st.integers(0, 20), st.floats(0.9, 0.9999))
def test_later_looks_spend_half_of_what_is_left_and_together_never_all_of_it(more, have, spent_before):
    looks = later_plan(2000, more, have, spent_before)
    shares = [look.share for look in looks]
    assert shares[0] == pytest.approx((1 - spent_before) / 2)
    assert sum(shares) < 1 - spent_before
    assert all(look.samples == 2000 and look.replicates >= max(have, 1) for look in looks)
    assert looks[-1].replicates == max(more, have, 1)


@pytest.mark.parametrize("growth", [2, 10, 50])
@pytest.mark.parametrize(
    "expectation",
    [lambda n: 5 + 300 / n, lambda n: 5 + 9 / math.sqrt(n), lambda n: math.log(n), lambda n: 1 - math.exp(-n / 8000)],
    ids=["bias of 1/n", "bias of 1/sqrt(n)", "logarithm", "coverage of few samples"],
)
def test_the_drift_of_a_part_bounds_how_far_it_is_from_all_samples(expectation, growth):
    n = 200
    found = drift(expectation(n), [expectation(n / 2)] * 2, [expectation(n / 4)] * 4, growth)
    assert found >= abs(expectation(n * growth) - expectation(n)) * (1 - 1e-9)


def test_the_first_look_is_a_tenth_of_the_suite():
    assert [(look.samples, look.replicates) for look in plan(50_000, 4)] == [
        (5_000, 1),
        (25_000, 1),
        (50_000, 1),
        (50_000, 2),
        (50_000, 4),
    ]


@cache
def margins(limits, correction):
    metrics = {name: {"max_worsening": limit} for name, limit in limits}
    return policy(metrics, defaults={"min_samples": 100, "correction": correction})


def simulate(rng, limits, effects, sd, samples=2000, more=4, correction="holm"):
    """One gate over independent scores whose errors fall with the root of the samples: its status and cost."""
    gate = margins(tuple(limits.items()), correction)
    sums = {name: np.zeros(2) for name in limits}
    drawn = 0
    looks = plan(samples, more)
    for look in looks:
        total = look.samples * look.replicates
        found = {}
        for name in limits:
            sums[name] += rng.normal(0, sd * math.sqrt(total - drawn), 2) + (total - drawn) * np.array(
                [effects[name], 0]
            )
            stderr = sd / math.sqrt(total)
            candidate, baseline = (Observation(s / total, stderr, stderr, total, "p") for s in sums[name])
            found[name] = Evidence(name, "lower", candidate, baseline)
        drawn = total
        verdict = judge(gate, found, look, TODAY, final=look is looks[-1])
        if verdict.status in (Status.PASS, Status.FAIL):
            break
    return verdict.status, drawn


@pytest.mark.parametrize(("metrics", "more"), [(1, 4), (4, 1), (4, 4)])
def test_identical_checkpoints_fail_no_more_often_than_promised(metrics, more):
    """At a margin of zero, where every difference is noise: the hardest case."""
    rng = np.random.default_rng(metrics * 10 + more)
    names = [f"m{i}" for i in range(metrics)]
    runs = [
        simulate(rng, dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0), 1.0, more=more)[0] for _ in range(GATES)
    ]
    failed = runs.count(Status.FAIL) / GATES
    level = 0.05
    assert failed <= level + 2 * math.sqrt(level * (1 - level) / GATES)


def test_without_counting_looks_and_limits_noise_would_fail_far_more_gates():
    rng = np.random.default_rng(5)
    names = [f"m{i}" for i in range(4)]
    zero = dict.fromkeys(names, 0.0)
    alone = [simulate(rng, zero, zero, 1.0, correction="none", more=1)[0] for _ in range(500)]
    assert alone.count(Status.FAIL) / 500 > 0.05 + 2 * math.sqrt(0.05 * 0.95 / 500)


def test_a_worsening_beyond_the_margin_passes_no_more_often_than_promised():
    rng = np.random.default_rng(6)
    at_margin = [simulate(rng, {"m": 0.1}, {"m": 0.1}, 1.0)[0] for _ in range(GATES)]
    assert at_margin.count(Status.PASS) / GATES <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / GATES)
    assert at_margin.count(Status.FAIL) / GATES <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / GATES)


def test_a_worsening_of_twice_the_margin_is_caught():
    """With the margin that calibration suggests for one evaluation, identical checkpoints pass and twice it fails."""
    rng = np.random.default_rng(7)
    sd, samples = 1.0, 2000
    margin = (norm.isf(0.025) + norm.isf(0.05)) * sd * math.sqrt(2 / samples)
    worse = [simulate(rng, {"m": margin, "n": margin}, {"m": 2 * margin, "n": 0.0}, sd) for _ in range(GATES)]
    same = [simulate(rng, {"m": margin, "n": margin}, {"m": 0.0, "n": 0.0}, sd) for _ in range(GATES)]
    assert sum(status is Status.FAIL for status, _ in worse) / GATES >= 0.95
    assert sum(status is Status.PASS for status, _ in same) / GATES >= 0.95
    assert sum(status is Status.FAIL for status, _ in same) / GATES <= 0.01


def test_what_is_clear_costs_a_tenth_and_what_is_close_costs_more():
    rng = np.random.default_rng(8)
    spent_on = {
        effect: np.mean([simulate(rng, {"m": 0.1}, {"m": effect}, 1.0)[1] for _ in range(200)])
        for effect in (0.8, 0.1, -0.8)
    }
    assert spent_on[0.8] <= 220
    assert spent_on[-0.8] <= 220
    assert spent_on[0.1] > 6000


@pytest.mark.parametrize("alpha", [0.025, 0.0025], ids=["alone", "first of ten limits"])
@pytest.mark.parametrize(("mine", "theirs"), [(2, 2), (3, 3), (5, 2)])
@pytest.mark.parametrize("own", [0.0, 1.0])
def test_few_seeds_keep_the_level_that_is_asked_for_whatever_they_spread(alpha, mine, theirs, own):
    """Student's factor at that very level: at 97.5 % for all, one of ten limits failed five times too often."""
    rng, z = np.random.default_rng(9), norm.isf(alpha)

    def side(runs):
        values = rng.normal(0, math.hypot(own, 3.0), runs)
        errors = (own, -1.96 * own, 1.96 * own) if own else (None, None, None)
        return pool(
            [Run(v, errors[0], *((v + e if own else None) for e in errors[1:]), 2000, "p", {}, "") for v in values]
        )

    failed = 0
    for _ in range(GATES):
        candidate, baseline = side(mine), side(theirs)
        found = worsening(Evidence("m", "lower", candidate, baseline), candidate, baseline, 0.0, z)
        failed += found.surely_beyond(z)
    assert failed / GATES <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / GATES)


def test_seeds_that_agree_by_chance_are_no_surer_than_their_samples():
    runs = [Run(v, 1.0, v - 1.96, v + 1.96, 2000, "p", {}, "") for v in (0.0, 0.01, 0.02)]
    assert pool(runs).stderr == pytest.approx(1 / math.sqrt(3), rel=1e-3)


def test_replicates_without_error_bars_get_theirs_from_their_spread():
    alone = pool([Run(1.0, None, None, None, 2000, "p", {}, "none: too few")])
    several = pool([Run(v, None, None, None, 2000, "p", {}, "") for v in (1.0, 2.0, 3.0)])
    assert alone.stderr is None
    assert several.value == 2
    assert several.stderr == pytest.approx(1 / math.sqrt(3))
    assert uncertainty(several, norm.isf(0.025)) == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)


def test_a_share_of_zero_keeps_its_wide_side():
    pooled = pool([Run(0.0, 0.0, 0.0, 0.04, 200, "p", {}, "")])
    assert pooled.below == 0
    assert pooled.above == pytest.approx(0.04 / 1.96, rel=1e-3)


def test_runs_over_the_same_documents_share_one_error():
    runs = [Run(2.0, 0.1, 1.8, 2.2, 500, "p", {}, "") for _ in range(4)]
    assert pool(runs).stderr == pytest.approx(0.05, rel=0.03)
    assert pool(runs, shared=True).stderr == pytest.approx(0.1, rel=0.03)
    assert (pool(runs).n, pool(runs, shared=True).n) == (2000, 500)


def test_all_looks_together_spend_exactly_the_level():
    fractions = np.array([0.025, 0.125, 0.25, 0.5, 1.0])
    steps = np.random.default_rng(0).normal(0, np.sqrt(np.diff(fractions, prepend=0)), (200_000, 5))
    process = steps.cumsum(1) / np.sqrt(fractions)
    crossed = (process > boundaries(0.025, tuple(fractions))).any(1).mean()
    assert crossed == pytest.approx(0.025, abs=3 * math.sqrt(0.025 * 0.975 / 200_000))
