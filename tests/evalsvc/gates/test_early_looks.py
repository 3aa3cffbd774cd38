"""Early looks through decide(): checkpoints whose scores are a limit value and a bias of b / n, without any noise."""

from dataclasses import dataclass, field

import pytest

from evalsvc.analysis.differences import Run
from evalsvc.gates.decide import decide
from evalsvc.gates.evidence import Absent
from evalsvc.gates.resolution import Sides
from evalsvc.inputs.suites import Suite
from evalsvc.store.tables import Checkpoint, Model

from .conftest import TODAY, policy

SAMPLES, STDERR = 10_000, 1e-3


def suite(**options):
    use = {"metric": "kernel_distance", "options": {"subsets": None} | options} if options else {"metric": "mind"}
    return Suite(
        name="s",
        version=1,
        modality="image",
        reference="r",
        samples=SAMPLES,
        extractors={"x": {"use": "pixels"}},
        metrics=[{"features": "x/f", "label": "m", **use}],
    )


@dataclass
class Simulated:
    """``laws``: of each checkpoint the value with endless samples, and b."""

    laws: dict[int, tuple[float, float]]
    asked: list[tuple[int, slice | None]] = field(default_factory=list)
    computes: bool = True

    def _run(self, checkpoint, n):
        at, bias = self.laws[checkpoint.id]
        value = at + bias / n
        return {"m": [Run(value, STDERR, value - 2e-3, value + 2e-3, n, f"n{n}", {}, "")]}

    def full(self, checkpoint, replicates, seed):
        return self._run(checkpoint, SAMPLES)

    def part(self, checkpoint, samples, seed, rows=None):
        self.asked.append((samples, rows))
        return self._run(checkpoint, samples if rows is None else rows.stop - rows.start)

    def stored(self, checkpoint, seed):
        return 0

    def why_nothing(self, checkpoint):
        return Absent("missing", "none")


def checkpoint(number):
    return Checkpoint(
        id=number, model=Model(name=f"m{number}"), step=1, digest=str(number), configuration="", path="", options={}
    )


def decided(limits, candidate, baseline, suite):
    source = Simulated({1: candidate, 2: baseline})
    found = decide(policy({"m": limits}), suite, Sides(checkpoint(1), (checkpoint(2),)), source, TODAY)
    return str(found.verdict.status), found.steps[-1].samples, source


GOOD, NARROW, COLLAPSED = (0.0, 64_000.0), (5.0, 60_000.0), (90.0, 4_000.0)
"""At 1,000 samples the narrow one (65) lies almost beside the good one (64), at all of them (11 and 6.4) far."""


@pytest.mark.parametrize("times", [1.2, 1.5, 2.0])
def test_a_candidate_that_only_all_samples_show_to_be_worse_does_not_pass_on_a_part(times):
    limits = {"max_worsening": (11.0 - 6.4) / times}
    assert decided(limits, NARROW, GOOD, suite())[:2] == ("FAIL", SAMPLES)


@pytest.mark.parametrize("limits", [{"max": 12.0}, {"max": 12.0, "max_worsening": 1.0}], ids=str)
def test_a_good_candidate_beside_a_collapsed_baseline_is_judged_by_its_own_drift(limits):
    assert decided(limits, GOOD, COLLAPSED, suite())[:2] == ("PASS", SAMPLES)


@pytest.mark.parametrize("limits", [{"max": 40.0}, {"max_worsening": 20.0}, {"max_worsening_rel": 0.5}], ids=str)
def test_a_candidate_that_no_drift_can_save_fails_on_a_tenth_or_half(limits):
    status, samples, source = decided(limits, COLLAPSED, (1.0, 2_000.0), suite())
    assert (status, samples) == ("FAIL", SAMPLES // 10)
    assert {rows.stop - rows.start for _, rows in source.asked if rows} == {500, 250}
    assert all(n == SAMPLES // 10 for n, _ in source.asked), "halves and quarters are of the samples that are there"


def test_kid_is_judged_on_a_part_and_cmmd_passes_on_all_samples_only():
    flat = (1.0, 0.0)
    assert decided({"max": 2.0}, flat, flat, suite(biased=False))[:2] == ("PASS", SAMPLES // 10)
    assert decided({"max": 2.0}, flat, flat, suite(biased=True))[:2] == ("PASS", SAMPLES)
    assert decided({"max": 0.5}, flat, flat, suite(biased=True))[:2] == ("FAIL", SAMPLES // 10)
