"""One difference for everybody: what both sides share is paired, what they do not is not."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evalsvc.analysis.differences import BEFORE, Run, difference, under_fixed_prompts
from evalsvc.builtin.scorers.choice import Choice
from evalsvc.evaluation.influences import UnitInfluence, read_influences, write_influences
from evalsvc.gates.evidence import pool
from evalsvc.metrics import functional as metrics
from evalsvc.metrics.aggregates import mean
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.proportions import mean_of_flags
from evalsvc.metrics.score import Z95, Direction, Score
from evalsvc.metrics.skewness import normal_quantile
from evalsvc.metrics.units import Units
from evalsvc.store.artifacts import Artifacts
from tests.metrics.honesty import repeated

LENGTHS = np.random.default_rng(7).integers(20, 200, 150).astype(float)


def run(score, number, units="documents/1", seed=0):
    return Run(
        score.value,
        score.stderr,
        score.ci_low,
        score.ci_high,
        score.n,
        "p",
        {},
        score.stderr_method,
        number,
        seed,
        score.influence,
        units,
    )


def likelihoods(rng):
    hard = rng.gamma(8.0, 0.3, len(LENGTHS))
    return [LENGTHS * hard * rng.gamma(400.0, 1 / 400, len(LENGTHS)) * gain for gain in (1.0, 0.98)]


def share(flags):
    return mean_of_flags("precision", np.asarray(flags), Units.of(len(flags)))


@pytest.mark.parametrize("of", ["perplexity", "bits_per_byte"])
def test_likelihoods_of_the_same_documents_are_paired(of):
    a, b = likelihoods(np.random.default_rng(1))
    found = difference(*([run(getattr(metrics, of)(nll, LENGTHS), i)] for i, nll in enumerate((a, b), start=1)))
    expected = metrics.paired_difference(b, a, LENGTHS, of=of)
    assert (found.paired, found.units) == (True, len(LENGTHS))
    assert found.value == pytest.approx(expected.value)
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-4)
    assert found.interval() == pytest.approx((expected.ci_low, expected.ci_high), rel=1e-4)


def test_a_language_model_and_its_copy_in_bfloat16_differ_by_far_less_than_either_is_uncertain():
    """``choice/nll`` of SmolLM2 on the 40 shipped questions, computed by generator causal-lm in either dtype."""
    kept = json.loads((Path(__file__).parent / "answer_nll.json").read_text())
    scores = [mean(np.array(kept[dtype]), Choice.quantities[2]) for dtype in ("float32", "bfloat16")]
    paired = difference(*([run(score, i, "items/1")] for i, score in enumerate(scores, start=1)))
    unpaired = difference(*([run(score, i, f"items/{i}")] for i, score in enumerate(scores, start=1)))
    assert (paired.paired, unpaired.paired) == (True, False)
    (low, high), (least, most) = paired.interval(), unpaired.interval()
    assert most - least > 3 * (high - low)  # 63 times


def test_units_of_other_names_are_independent():
    a, b = (metrics.bits_per_byte(nll, LENGTHS) for nll in likelihoods(np.random.default_rng(1)))
    found = difference([run(a, 1, "noise/0")], [run(b, 2, "noise/1")])
    assert found.stderr == pytest.approx(math.hypot(a.stderr, b.stderr))
    assert not found.paired
    assert found.unpaired == "the two share no documents, prompts or noise"


def test_runs_without_influences_are_independent_and_say_why():
    a, b = (metrics.bits_per_byte(nll, LENGTHS) for nll in likelihoods(np.random.default_rng(1)))
    old = Run(b.value, b.stderr, b.ci_low, b.ci_high, b.n, "p", {}, "", 2, 0, "scored before influences were stored")
    found = difference([run(a, 1)], [old])
    assert found.stderr == pytest.approx(math.hypot(a.stderr, b.stderr))
    assert found.unpaired == "scored before influences were stored"


def test_a_run_differs_from_itself_by_nothing():
    score = metrics.perplexity(likelihoods(np.random.default_rng(1))[0], LENGTHS)
    found = difference([run(score, 1)], [run(score, 1)])
    assert (found.value, found.interval()) == (0.0, (0.0, 0.0))


def test_a_difference_turned_round_has_the_interval_turned_round():
    flags = np.random.default_rng(0).random((2, 80)) < 0.96
    a, b = (run(share(each), i) for i, each in enumerate(flags, start=1))
    (low, high), (other_low, other_high) = difference([a], [b]).interval(), difference([b], [a]).interval()
    assert (low, high) == pytest.approx((-other_high, -other_low))


def test_independent_units_that_are_paired_all_the_same_have_the_error_of_independent_ones():
    rng = np.random.default_rng(0)
    a, b = (metrics.bits_per_byte(rng.gamma(8.0, 20.0, 4000), np.full(4000, 100.0)) for _ in "ab")
    apart, together = (difference([run(a, 1, units[0])], [run(b, 2, units[1])]) for units in (("x", "y"), ("x", "x")))
    assert together.paired
    assert together.stderr == pytest.approx(apart.stderr, rel=0.05)


def test_shares_at_the_end_of_their_range_keep_wilsons_interval():
    a, b = run(share([True] * 1000), 1, "noise/0"), run(share([True] * 997 + [False] * 3), 2, "noise/1")
    low, high = difference([a], [b]).interval()
    assert low < -0.008
    assert high > 0.0015


def test_shares_that_agree_on_every_unit_are_no_surer_than_one_unit():
    flags = np.random.default_rng(0).random(500) < 0.5
    found = difference([run(share(flags), 1)], [run(share(flags), 2)])
    assert found.value == 0
    assert found.errors.below == pytest.approx(1 / 500)


def test_seeds_that_both_sides_ran_are_paired_one_by_one():
    rng = np.random.default_rng(0)
    sides = [[], []]
    for seed in range(3):
        for side, nll in zip(sides, likelihoods(rng), strict=True):
            side.append(run(metrics.bits_per_byte(nll, LENGTHS), 10 * len(sides[0]) + seed, f"noise/{seed}", seed))
    a, b = sides
    found = difference(a, b)
    alone = [difference([one], [other]) for one, other in zip(a, b, strict=True)]
    assert found.value == pytest.approx(np.mean([each.value for each in alone]))
    assert found.errors.below == pytest.approx(math.sqrt(sum(each.errors.below**2 for each in alone)) / 3)
    assert found.errors.spread == pytest.approx(np.std([each.value for each in alone], ddof=1) / math.sqrt(3))
    assert found.errors.runs_freedom == 2
    assert found.units == 3 * len(LENGTHS)


def test_replicates_over_the_same_documents_share_them():
    a, b = likelihoods(np.random.default_rng(0))
    one, other = (metrics.bits_per_byte(nll, LENGTHS) for nll in (a, b))
    single = difference([run(one, 1)], [run(other, 2)])
    pooled = difference([run(one, 1), run(one, 3, seed=1)], [run(other, 2), run(other, 4, seed=1)])
    assert pooled.stderr == pytest.approx(single.stderr, rel=1e-5)
    assert pooled.units == len(LENGTHS)


def test_few_groups_are_judged_by_students_t_at_any_level():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    a, b = (metrics.bits_per_byte(rng.gamma(8.0, 20.0, 100), np.full(100, 100.0), groups) for _ in "ab")
    found = difference([run(a, 1)], [run(b, 2)])
    low, high = found.interval(Z95)
    assert (high - low) / 2 / found.stderr == pytest.approx(2.093, abs=1e-3)
    assert found.units == 20


def test_a_side_without_an_error_leaves_the_difference_without_one():
    a = metrics.bits_per_byte(likelihoods(np.random.default_rng(0))[0], LENGTHS)
    none = metrics.bits_per_byte(np.array([10.0]), np.array([5.0]))
    found = difference([run(a, 1)], [run(none, 2)])
    assert (found.stderr, found.interval()) == (None, None)


def test_influences_are_read_as_they_were_written(tmp_path):
    artifacts = Artifacts(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 60, 3))
    scores = {
        "fd": metrics.frechet_distance(x, y),
        "kid": metrics.kernel_distance(x, y, subsets=None, groups=np.arange(60) // 2),
        **metrics.prdc(x, y),
        "fd_infinity": metrics.mind(x, y, directions=3),
    }
    rows = Influence(50, whole=rng.standard_normal(50).astype(np.float32))
    written = {label: UnitInfluence(score.influence, "noise/0", rows) for label, score in scores.items()}
    write_influences(artifacts, "evaluations/1/influences.safetensors", written)
    found = read_influences(artifacts, "evaluations/1/influences.safetensors")
    assert found.keys() == written.keys()
    assert found["fd_infinity"].influence == "this metric keeps no influences"
    assert {each.reference.variance for each in found.values()} == {rows.variance}
    for label in ("fd", "kid", "precision", "recall"):
        mine, theirs = written[label].influence, found[label].influence
        assert found[label].units == "noise/0"
        assert (mine.n, mine.student, mine.logarithmic, mine.least, mine.variance) == (
            theirs.n,
            theirs.student,
            theirs.logarithmic,
            theirs.least,
            theirs.variance,
        )


def test_influences_that_are_elsewhere_are_none(tmp_path):
    assert read_influences(Artifacts(tmp_path), "evaluations/1/influences.safetensors") == {}


def prompted(rng, between, prompts=40, draws=5):
    """Bits per byte of texts by prompt, with the run of their score."""
    prompt = np.repeat(np.arange(prompts), draws)
    x = (100 + between[:, None] + rng.normal(0, 1, (prompts, draws))).ravel()
    return metrics.clip_score(np.stack([np.ones_like(x), 1 / (x / 50)], 1), np.tile([1.0, 0.0], (len(x), 1)), prompt)


def test_prompts_that_are_fixed_leave_the_spread_between_their_draws_alone():
    rng = np.random.default_rng(0)
    between = rng.normal(0, 20, 40)
    values = [score.value for score in repeated(lambda _: prompted(rng, between), 150)]
    score = prompted(rng, between)
    fixed = under_fixed_prompts(run(score, 1, "prompts/1"))
    assert fixed.stderr == pytest.approx(np.std(values, ddof=1), rel=0.2)
    assert fixed.stderr < score.stderr / 5
    assert difference([fixed], [under_fixed_prompts(run(score, 2, "prompts/1", seed=1))]).units == 200


def test_a_single_draw_of_fixed_prompts_gives_no_error():
    score = metrics.bits_per_byte(likelihoods(np.random.default_rng(0))[0], LENGTHS)
    assert under_fixed_prompts(run(score, 1, "prompts/1")).stderr is None
    assert under_fixed_prompts(run(score, 1, "noise/0")).stderr == score.stderr


def test_replicates_over_the_same_prompts_share_them():
    rng = np.random.default_rng(0)
    between = rng.normal(0, 20, 40)
    one, other = (prompted(rng, between) for _ in range(2))
    both = pool([run(one, 1, "prompts/1"), run(other, 2, "prompts/1", seed=1)])
    assert both.stderr == pytest.approx(one.stderr, rel=0.05)  # most of it lies between prompts


def test_influences_that_another_version_wrote_are_none(tmp_path):
    artifacts = Artifacts(tmp_path)
    for facts in ({}, {"influences": "{"}, {"influences": '{"fd": {"n": 3, "units": "noise/0", "later": 1}}'}):
        artifacts.write_arrays("influences.safetensors", {"fd/whole": np.zeros(3, np.float32)}, facts)
        assert read_influences(artifacts, "influences.safetensors") == {}


def against(rows, stderr=1.0, value=0.0, number=1, seed=0, facts=None, **more):
    """A run against a reference whose rows have this influence."""
    influence = Influence(len(rows), whole=np.asarray(rows, np.float32))
    score = Score(
        "fd",
        value,
        stderr,
        value - Z95 * stderr,
        value + Z95 * stderr,
        100,
        Direction.LOWER,
        "",
        "",
        reference=influence,
    )
    known = {"stderr_reference": math.sqrt(influence.variance)} | more
    return Run.of(score, "p", facts or {"reference": "a" * 64}, run=number, seed=seed, **known)


def test_the_rows_of_a_reference_cancel_in_a_difference_as_far_as_they_move_both_sides_alike():
    rng = np.random.default_rng(0)
    common, own = rng.normal(0, 10, (2, 400))
    a, same, other = against(common, number=1), against(common, number=2), against(common + own, number=3)
    assert difference([a], [same]).stderr_reference == 0
    found = difference([a], [other])
    assert found.stderr_reference == pytest.approx(own.std(ddof=1) / 20, rel=0.01)
    low, high = found.interval(Z95, "sampled")
    assert (high - low) / 2 == pytest.approx(Z95 * math.hypot(found.stderr, found.stderr_reference))
    assert found.interval() == pytest.approx((-Z95 * math.sqrt(2), Z95 * math.sqrt(2)))


def test_more_seeds_do_not_shrink_the_error_of_the_reference_that_they_share():
    rows = np.random.default_rng(0).normal(0, 10, 400)
    runs = [against(rows, number=seed + 1, seed=seed) for seed in range(4)]
    assert difference((), runs).stderr_reference == pytest.approx(runs[0].stderr_reference, rel=1e-5)
    assert difference((), runs).errors.below == pytest.approx(0.5)


def test_rows_of_other_references_are_independent_and_those_without_influences_are_added_up():
    a, b = (against(np.random.default_rng(i).normal(0, 10, 400), number=i) for i in (1, 2))
    elsewhere = replace(b, reference_units="reference/" + "b" * 16)
    assert difference([a], [elsewhere]).stderr_reference == pytest.approx(
        math.hypot(a.stderr_reference, b.stderr_reference)
    )
    lost = replace(b, reference="its influences are missing")
    assert difference([a], [lost]).stderr_reference == pytest.approx(a.stderr_reference + b.stderr_reference)


def test_an_unknown_error_of_the_reference_leaves_the_difference_without_one_and_says_why():
    a = against(np.ones(9), number=1)
    old = Run.of(replace(a_row(), stderr_reference=None), "p", {"reference": "a" * 64}, run=2)
    found = difference([a], [old])
    assert (found.stderr_reference, found.reference_method) == (None, BEFORE)
    assert found.interval() is not None
    assert found.interval(Z95, "sampled") is None
    free = Run.of(replace(a_row(), stderr_reference=None), "p", {"samples": 100}, run=2)
    assert difference([free], [a]).stderr_reference == a.stderr_reference, (
        "a score without a reference has no such error"
    )


def a_row():
    return Score("fd", 0.0, 1.0, -Z95, Z95, 100, Direction.LOWER, "", "")


def scaled(draws, freedom, level=1.0):
    """A score that is a scaled chi-square, as a distance at a low effective dimension is."""
    value = level * draws / freedom
    stderr = value * math.sqrt(2 / freedom)
    return Run(value, stderr, 0.0, 2 * value, 100, "p", {}, "", skewness=math.sqrt(8 / freedom))


@pytest.mark.parametrize(("times", "level"), [(1.0, 0.9), (3.0, 0.8)])
def test_differences_of_skewed_scores_keep_their_level(level, times):
    """Symmetric intervals miss 13 of 100 at 90 % where the two are not equal, on one side alone."""
    draws = np.random.default_rng(0).chisquare(16, (400, 2))
    missed = np.zeros(2)
    for a, b in draws:
        low, high = difference([scaled(a, 16)], [scaled(b, 16, times)]).interval(normal_quantile(level))
        missed += low > times - 1, high < times - 1
    assert missed / len(draws) == pytest.approx((1 - level) / 2, abs=3 * math.sqrt((1 - level) / 2 / len(draws)))


def test_seeds_of_a_skewed_score_are_less_skewed_together():
    runs = [replace(scaled(16, 16), run=seed + 1, seed=seed) for seed in range(4)]
    (down, up), (more_down, more_up) = (difference((), part).errors.widths(Z95) for part in (runs[:1], runs))
    assert up / down > more_up / more_down > 1.2
    assert difference((), runs[:1]).errors.turned.widths(Z95) == pytest.approx((up, down))
