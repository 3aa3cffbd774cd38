"""Whether a decision is about this reference file, or generalizes to references like it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from evalsvc.analysis.differences import Run
from evalsvc.gates.decide import Decision, Step, decide
from evalsvc.gates.documents import document
from evalsvc.gates.evidence import Absent, Evidence, pool
from evalsvc.gates.evidence_collection import _median
from evalsvc.gates.explanation import explain
from evalsvc.gates.first_policy import first_limits, policy_text
from evalsvc.gates.policy import parse_policy
from evalsvc.gates.reports import ci, huggingface, markdown
from evalsvc.gates.reports.page import page
from evalsvc.gates.resolution import Sides, over_documents
from evalsvc.gates.verdict import Status, judge
from evalsvc.inputs.suites import load_suite
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.score import Z95

from .conftest import ONCE, TODAY, policy
from .store import DIGITS
from .test_early_looks import checkpoint, suite

ROWS = 898
MARGIN = {"m": {"max_worsening": 2.0}}
UNKNOWN = "none: published statistics hold no samples"


def run(value, of_reference=None, stderr=0.1, n=2000, **more):
    """A score whose reference's rows have the influence ``of_reference``, scaled to a standard error."""
    ends = value - Z95 * stderr, value + Z95 * stderr
    found = {"reference_units": "reference/r"}
    if of_reference is not None:
        error = math.sqrt(float(np.mean(of_reference**2)) * ROWS / (ROWS - 1) / ROWS)
        influence = Influence(ROWS, whole=of_reference.astype(np.float32))
        found |= {"stderr_reference": error, "reference_method": "rows", "reference": influence}
    return Run(value, stderr, *ends, n, "p", {}, "", **found | more)


def rows(error, seed=0):
    """Influences of the rows of a reference with this standard error."""
    drawn = np.random.default_rng(seed).standard_normal(ROWS)
    drawn -= drawn.mean()
    return drawn * error * math.sqrt(ROWS) / drawn.std(ddof=1)


def gated(candidate, baseline=None, limits=MARGIN, reference="sampled", **more):
    found = {"m": Evidence("m", "lower", pool([candidate]), baseline and pool([baseline]), **more)}
    gate = policy(limits, reference=reference)
    return gate, found, judge(gate, found, ONCE, TODAY)


@pytest.mark.parametrize("limits", [{"max": 21.0}, {"max_worsening": 1.0}, {"max_worsening_rel": 0.05}], ids=str)
def test_a_limit_may_hold_on_this_file_and_not_for_references_like_it(limits):
    sides = run(20.0, rows(1.0)), run(20.0, rows(1.0, seed=1))
    assert gated(*sides, {"m": limits}, "fixed")[2].status is Status.PASS
    assert gated(*sides, {"m": limits})[2].status is Status.INCONCLUSIVE
    far = run(26.0, rows(1.0)), sides[1]
    assert [gated(*far, {"m": limits}, which)[2].status for which in ("fixed", "sampled")] == [Status.FAIL] * 2


def test_what_the_rows_do_to_both_sides_alike_cancels_from_a_difference_and_not_from_a_value():
    alike = run(20.0, rows(1.0)), run(20.0, rows(1.0))
    assert gated(*alike)[2].status is Status.PASS
    assert gated(*alike, {"m": {"max": 21.0}})[2].status is Status.INCONCLUSIVE
    [finding] = gated(*alike, {"m": {"max": 21.0}})[2].metrics[0].findings
    assert finding.comparison.high - 20 == pytest.approx(math.hypot(0.1, 1.0) * ONCE.z(0.025), rel=1e-3)


def test_the_interval_of_a_ratio_has_the_error_of_the_reference_on_both_sides():
    """Fieller's interval of two independent sides is that of their hypotenuse errors."""
    limits = {"m": {"max_worsening_rel": 0.05}}
    apart = [run(20.0, rows(0.4)), run(21.0, rows(0.3, seed=1), reference_units="reference/other")]
    wide = [
        replace(side, stderr=error, ci_low=side.value - Z95 * error, ci_high=side.value + Z95 * error)
        for side, error in zip(apart, (math.hypot(0.1, 0.4), math.hypot(0.1, 0.3)), strict=True)
    ]
    ours = gated(*apart, limits)[2].metrics[0].findings[0].comparison
    theirs = gated(*wide, limits, "fixed")[2].metrics[0].findings[0].comparison
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-6)


@pytest.mark.parametrize("limits", [{"max": 40.0}, {"max_worsening": 2.0}, {"max_worsening_rel": 0.1}], ids=str)
@pytest.mark.parametrize("side", [0, 1])
def test_an_unknown_error_of_the_reference_decides_nothing_and_names_the_way_out(limits, side):
    unknown = {"stderr_reference": None, "reference_method": UNKNOWN, "reference": UNKNOWN}
    sides = [run(20.0, rows(0.1)), run(20.0, rows(0.1))]
    sides[side] = replace(sides[side], **unknown)
    verdict = gated(*sides, {"m": limits})[2]
    if side == 1 and "max" in limits:
        assert verdict.status is Status.PASS
    else:
        assert (verdict.status, verdict.metrics[0].open) == (Status.INCONCLUSIVE, False)
        assert f"is unknown ({UNKNOWN})" in verdict.reason
        assert "'reference: fixed' decides it for this one" in verdict.reason
    assert gated(*sides, {"m": limits}, "fixed")[2].status is Status.PASS


def test_a_run_is_equal_to_itself_under_every_reference():
    unknown = run(20.0, stderr_reference=None, reference_method=UNKNOWN)
    assert gated(unknown, unknown, {"m": {"max_worsening": 0.0}}, same=True)[2].status is Status.PASS


def test_a_score_without_a_reference_is_judged_as_before():
    sides = run(20.0), run(20.0)
    fixed, sampled = (gated(*sides, MARGIN, which)[2] for which in ("fixed", "sampled"))
    assert fixed == sampled
    assert fixed.status is Status.PASS


def test_a_median_takes_the_largest_error_of_its_baselines():
    near, far = (pool([run(20.0, rows(1.0, seed=seed))]) for seed in (0, 1))
    found = Evidence("m", "lower", near, _median([near, far, near], "p"))
    assert found.reference_error(1.0) == Evidence("m", "lower", near, far).reference_error(1.0) > 1.3
    assert Evidence("m", "lower", near, _median([near, near, near], "p")).reference_error(1.0) == 0


class Rowed:
    """A source of two checkpoints beside a reference of few rows, where more samples reduce their own error alone."""

    computes = True

    def __init__(self, of_reference, gap):
        self.of_reference, self.gap, self.taken = of_reference, gap, []

    def _runs(self, checkpoint, n, replicates=1):
        self.taken.append((n, replicates))
        return {
            "m": [
                run(20 + self.gap * (checkpoint.id == 1), rows(self.of_reference, seed=checkpoint.id), 10 / n**0.5, n)
            ]
            * replicates
        }

    def full(self, checkpoint, replicates, seed):
        return self._runs(checkpoint, 10_000, replicates)

    def part(self, checkpoint, samples, seed, rows=None):
        return self._runs(checkpoint, samples)

    def stored(self, checkpoint, seed):
        return 0

    def why_nothing(self, checkpoint):
        return Absent("missing", "none")


def looked(of_reference, gap, **changes):
    source = Rowed(of_reference, gap)
    gate = policy({"m": {"max_worsening": 0.5}}, reference="sampled", on_inconclusive={"more_samples": 4}, **changes)
    found = decide(gate, suite(biased=False), Sides(checkpoint(1), (checkpoint(2),)), source, TODAY)
    return found, document(found, exit_code=4)


def test_no_look_is_spent_on_what_only_the_reference_leaves_open():
    found, told = looked(of_reference=2.0, gap=0.6)
    assert [(step.samples, step.status) for step in found.steps] == [(1000, Status.INCONCLUSIVE)]
    assert "more samples cannot decide it, because the choice of the reference of 898 rows" in told["verdict"]["reason"]
    [each] = explain(told)
    assert "more samples cannot decide it, because the reference is a sample of 898 rows" in each.advice
    assert each.samples is None
    open_, told = looked(of_reference=0.05, gap=0.6)
    assert open_.steps[-1].samples == 10_000
    assert "cannot decide" not in told["verdict"]["reason"]
    early, _ = looked(of_reference=2.0, gap=0.6, defaults={"min_samples": 5000})
    assert [step.samples for step in early.steps] == [1000, 5000], "fewer samples than are required settle nothing"


def test_explain_leaves_the_error_of_the_reference_out_of_what_samples_reduce():
    """Both errors are 0.1, and the limit is 0.25 away."""
    gate, found, verdict = gated(run(19.75, rows(0.1)), limits={"m": {"max": 20.0}}, reference="sampled")
    assert verdict.status is Status.INCONCLUSIVE
    z = ONCE.z(0.025)
    decision = Decision(gate, DIGITS, Sides(checkpoint(1), None), found, verdict, (Step(2000, 1, z, verdict.status),))
    [each] = explain(document(decision, exit_code=4))
    assert each.samples == pytest.approx(2000 * (0.1 * z) ** 2 / (0.25**2 - (0.1 * z) ** 2), rel=1e-3)


@pytest.mark.parametrize(("reference", "said"), [("fixed", "on this reference file"), ("sampled", "for references")])
def test_every_report_says_which_references_it_is_about(reference, said):
    gate, found, verdict = gated(run(20.0, rows(0.3)), run(20.0, rows(0.3)), reference=reference)
    steps = (Step(2000, 1, Z95, verdict.status),)
    decision = Decision(gate, DIGITS, Sides(checkpoint(1), (checkpoint(2),)), found, verdict, steps)
    body = {"gate": 1, "at": "2026-11-20T10:00:00+01:00", **document(decision, exit_code=0)}
    assert said in body["scope"]
    assert all(body["scope"] in made for made in (ci.junit(body), markdown.summary(body), page(body)))
    assert "20 ± 0.1, reference ± 0.3" in markdown.summary(body)
    assert 'evalsvc_score_stderr_reference{metric="m"} 0.3' in ci.gitlab_metrics(body)
    assert ", of the reference 0.3" in huggingface.eval_results(body)
    assert "stderr_reference: 0.3" in huggingface.model_index(body)


def test_a_verdict_without_a_reference_speaks_of_none():
    gate, found, verdict = gated(run(20.0), run(20.0))
    steps = (Step(2000, 1, Z95, verdict.status),)
    decision = Decision(gate, DIGITS, Sides(checkpoint(1), (checkpoint(2),)), found, verdict, steps)
    assert document(decision, exit_code=0)["scope"] == ""


def test_a_first_policy_generalizes_where_every_limit_can():
    def written(*runs):
        text = policy_text(DIGITS, "{alias: production}", first_limits(DIGITS, {"frechet_distance": runs}), "told")
        return parse_policy(text), text

    known, _ = written(run(20.0, rows(1.0)))
    fixed, text = written(run(20.0, stderr_reference=None, reference_method=UNKNOWN))
    assert (known.reference, fixed.reference) == ("sampled", "fixed")
    assert UNKNOWN in text
    assert known.metrics["frechet_distance"].max > fixed.metrics["frechet_distance"].max + Z95


def test_only_likelihoods_of_the_reference_are_over_its_documents():
    """Fluency is a judge's likelihood of the samples, which other seeds draw anew."""
    found = over_documents(load_suite("text"))
    assert "bits_per_byte" in found
    assert not [label for label in found if label.startswith("fluency")]
