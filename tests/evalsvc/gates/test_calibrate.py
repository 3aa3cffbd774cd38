import math

import numpy as np
import pytest
from scipy.stats import norm

from evalsvc.analysis.differences import Run
from evalsvc.core.errors import InputError
from evalsvc.gates.calibrate import calibrate
from evalsvc.gates.sequential import plan

from .conftest import TODAY
from .store import DIGITS, gate_policy

DECIDING = plan(DIGITS.samples)[-1].z(0.025)
"""Standard errors at the look of a first decision that takes all samples."""


def runs(values, stderr):
    return [Run(v, stderr, v - 1.96 * stderr, v + 1.96 * stderr, 2000, "p", {}, "", i) for i, v in enumerate(values)]


def calibrated(values, margin=2.0, stderr=1.0):
    policy = gate_policy(metrics={"frechet_distance": {"max_worsening": margin}})
    return calibrate(policy, DIGITS, {"frechet_distance": runs(values, stderr)}, TODAY)


def test_equal_runs_fail_never_and_the_margin_is_what_their_errors_allow():
    found = calibrated([20.0] * 4, margin=0.0)
    [noise] = found.noise
    assert (found.runs, found.pairs, found.failed, found.unsure) == (4, 12, 0, 1)
    assert (noise.spread, noise.claimed) == (0, 1)
    assert noise.margin == pytest.approx((DECIDING + norm.isf(0.05)) * math.sqrt(2))
    assert noise.margin_rel == pytest.approx(noise.margin / 20)
    assert noise.detectable == pytest.approx(noise.margin)


def test_the_suggested_margin_lets_equal_checkpoints_pass_and_catches_what_it_calls_detectable():
    rng = np.random.default_rng(1)
    values = rng.normal(20, 1, 40)
    margin = calibrated(values).noise[0].margin
    found = calibrated(values, margin)
    assert found.failed == 0
    assert found.unsure <= 0.1
    worse = rng.normal(found.noise[0].detectable, math.sqrt(2), 20_000)
    assert np.mean(worse - margin > DECIDING * math.sqrt(2)) >= 0.945


def test_seeds_that_differ_by_more_than_they_claim_are_seen():
    found = calibrated(np.random.default_rng(2).normal(20, 5, 10))
    assert found.noise[0].spread > 3 * found.noise[0].claimed
    assert found.failed > 0.05, "an error bar without the spread of seeds raises false alarms, and this shows it"
    assert found.noise[0].margin > 15


def test_one_run_calibrates_nothing():
    with pytest.raises(InputError, match="at least 2 distinct runs, and frechet_distance has only 1:"):
        calibrated([20.0])
