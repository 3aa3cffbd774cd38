"""``OMP_NUM_THREADS=1 python -m benchmarks.gate_levels normals|features|shared|references``: are levels kept?

Every decision is that of :func:`evalsvc.gates.verdict.judge` under the plans of :mod:`evalsvc.gates.sequential`. Equal
checkpoints must fail, and checkpoints that are worse by exactly the margin must pass, in 2.5 % at most.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache

import numpy as np
import torch
from scipy.stats import t as student

from evalsvc.analysis.differences import Run
from evalsvc.gates.calibrate import passing_margin
from evalsvc.gates.evidence import Evidence, Observation, drift, pool
from evalsvc.gates.policy import Policy
from evalsvc.gates.sequential import FIRST_SHARE, SINGLE, Look, later_plan, plan
from evalsvc.gates.verdict import Status, judge
from evalsvc.inputs.sample_order import order
from evalsvc.metrics.functional import frechet_distance
from evalsvc.metrics.moments import Moments
from evalsvc.metrics.units import Units

Metrics = Sequence[Sequence[np.ndarray]] | np.ndarray
"""Of each metric two sides, each one row of runs a gate."""
TODAY = date(2026, 11, 28)
SAMPLES, LEVEL, MARGIN = 2000, 0.025, 5.0
UNSURE = 1.9
"""Smaller than every critical value of a level of 2.5 %: where no estimate is so far off, judge() decides nothing."""


@dataclass(frozen=True)
class Cell:
    """How often what must be rare was seen; ``allowed`` is the promise and three standard errors of the simulation."""

    name: str
    what: str
    rate: float
    allowed: float

    def __str__(self) -> str:
        verdict = "" if self.rate <= self.allowed else " **beyond**"
        return f"| {self.name} | {self.what} | {100 * self.rate:.2f} % | {100 * self.allowed:.2f} %{verdict} |"


@cache
def policy(margins: tuple[float, ...]) -> Policy:
    """Margins of worsening, one a metric."""
    metrics = {f"m{i}": {"max_worsening": margin} for i, margin in enumerate(margins)}
    body = {"version": 1, "suite": "s@1", "baseline": {"alias": "production"}, "defaults": {"min_samples": 100}}
    return Policy.model_validate({**body, "metrics": metrics})


def counted(name: str, what: str, outcomes: Sequence[bool]) -> Cell:
    gates = len(outcomes)
    return Cell(name, what, sum(outcomes) / gates, LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / gates))


# --- exact normals ---


def looked_at(rng: np.random.Generator, gates: int, looks: Sequence[Look], metrics: int, *, equal: bool) -> list[bool]:
    """Which gates fail equal checkpoints at a margin of zero, or pass one that is worse by the margin in one metric."""
    sizes = np.array([look.samples * look.replicates for look in looks], dtype=float)
    steps = np.diff(sizes, prepend=0)
    noise = rng.standard_normal((gates, metrics, 2, len(looks))) * np.sqrt(steps)
    values = noise.cumsum(-1) / sizes
    margins = (0.0,) * metrics if equal else (MARGIN,) * metrics
    if not equal:
        values[:, 0, 0] += MARGIN
    stderr = 1 / np.sqrt(sizes)
    far = np.abs(values[:, :, 0] - values[:, :, 1] - (0 if equal else MARGIN)) > UNSURE * math.sqrt(2) * stderr
    wanted = Status.FAIL if equal else Status.PASS
    found = []
    for gate in range(gates):
        status = None
        for place in np.flatnonzero(far[gate, : 1 if not equal else metrics].any(0)).tolist():
            n = int(sizes[place])
            sides = [
                [Observation(values[gate, i, side, place], stderr[place], stderr[place], n, "p") for side in (0, 1)]
                for i in range(metrics)
            ]
            evidence = {f"m{i}": Evidence(f"m{i}", "lower", both[0], both[1]) for i, both in enumerate(sides)}
            final = place == len(looks) - 1
            status = judge(policy(margins), evidence, looks[place], TODAY, final=final).status
            if status in (Status.PASS, Status.FAIL):
                break
        found.append(status is wanted)
    return found


def run(value: float, seed: int, own: float = 1.0) -> Run:
    """One seed's score with its error."""
    return Run(value, own, value - 1.96 * own, value + 1.96 * own, SAMPLES, "p", {}, "", seed + 1, seed)


def again(rng: np.random.Generator, gates: int, runs: Sequence[int], *, equal: bool, both: bool) -> list[bool]:
    """Gates one after the other, each over the first ``runs`` seeds, until one passes (or fails equal checkpoints).

    ``both`` sides are run under new seeds, or the candidate alone. The same number of runs again is the same evidence.
    """
    shift = 0.0 if equal else MARGIN
    drawn = rng.standard_normal((gates, 2, max(runs)))
    drawn[:, 0] += shift
    found = np.zeros(gates, dtype=bool)
    spent = 0.0
    for count in dict.fromkeys(runs):
        look = Look(SAMPLES, count, SINGLE, FIRST_SHARE) if not spent else later_plan(SAMPLES, count, count, spent)[0]
        spent += look.share
        counts = (count, count if both else 1)
        sides = [drawn[:, side, : counts[side]] for side in (0, 1)]
        for gate in np.flatnonzero(_may_decide(sides, shift) & ~found).tolist():
            found[gate] = _reached([sides], gate, look, equal=equal, margin=shift)
    return found.tolist()


def seeds(rng: np.random.Generator, gates: int, count: int, spread: float, metrics: int, *, equal: bool) -> list[bool]:
    """A single decision over a few seeds a side, which differ by ``spread`` times the samples' error."""
    shift = 0.0 if equal else 20.0
    look = Look(SAMPLES, count, SINGLE, FIRST_SHARE)
    drawn = rng.normal(0, math.hypot(1, spread), (metrics, 2, gates, count))
    drawn[0, 0] += shift
    found = np.zeros(gates, dtype=bool)
    far = np.any([_may_decide(sides, shift if m == 0 else 0.0) for m, sides in enumerate(drawn)], axis=0)
    for gate in np.flatnonzero(far).tolist():
        found[gate] = _reached(drawn, gate, look, equal=equal, margin=shift)
    return found.tolist()


def _may_decide(sides: Sequence[np.ndarray], limit: float) -> np.ndarray:
    """Which gates are further from the limit than every width that judge() may use, at the largest level."""
    gap = np.abs(sides[0].mean(-1) - sides[1].mean(-1) - limit)
    own = math.sqrt(sum(1 / side.shape[-1] for side in sides))
    variance = sum(side.var(-1, ddof=1) / side.shape[-1] for side in sides if side.shape[-1] > 1)
    freedom = sum(side.shape[-1] - 1 for side in sides)
    factor = student.isf(LEVEL, freedom) if all(side.shape[-1] > 1 for side in sides) else UNSURE
    between = factor * np.sqrt(variance)
    return np.asarray(gap > np.maximum(UNSURE * own, between))


def _reached(
    metrics: Sequence[Sequence[np.ndarray]] | np.ndarray, gate: int, look: Look, *, equal: bool, margin: float
) -> bool:
    """Whether judge() fails (or passes) this gate; each metric is drawn as two sides of runs."""
    evidence = {}
    for i, sides in enumerate(metrics):
        candidate, baseline = (
            pool([run(float(v), 100 * s + j) for j, v in enumerate(side[gate])]) for s, side in enumerate(sides)
        )
        evidence[f"m{i}"] = Evidence(f"m{i}", "lower", candidate, baseline)
    status = judge(policy((margin,) * len(metrics)), evidence, look, TODAY).status
    return status is (Status.FAIL if equal else Status.PASS)


def prompts(rng: np.random.Generator, gates: int, count: int, draws: int, *, equal: bool, paired: bool) -> list[bool]:
    """Scores over prompts that are used ``draws`` times each, which vary as much between prompts as within one."""
    wanted, shift = (Status.FAIL, 0.0) if equal else (Status.PASS, MARGIN)
    look, units = Look(SAMPLES, 1, SINGLE, FIRST_SHARE), Units.of(count * draws, np.repeat(np.arange(count), draws))

    def side(values: np.ndarray, number: int, name: str) -> Observation:
        variance, influence = units.estimate(values)
        value, stderr = float(values.mean()), math.sqrt(variance)
        bound = units.quantile * stderr
        return pool(
            [Run(value, stderr, value - bound, value + bound, len(values), "p", {}, "", number, 0, influence, name)]
        )

    found = []
    for _ in range(gates):
        of_prompts = rng.standard_normal((2, count))
        of_prompts[1] = of_prompts[0] if paired else of_prompts[1]
        values = np.repeat(of_prompts, draws, axis=1) + rng.standard_normal((2, count * draws))
        means = values.reshape(2, count, draws).mean(2)
        gaps = means[0] - means[1]
        error = gaps.std(ddof=1) if paired else math.sqrt(means[0].var(ddof=1) + means[1].var(ddof=1))
        if abs(gaps.mean()) <= UNSURE * error / math.sqrt(count):
            found.append(False)
            continue
        candidate, baseline = side(values[0] + shift, 1, "a"), side(values[1], 2, "a" if paired else "b")
        evidence = {"m0": Evidence("m0", "lower", candidate, baseline)}
        found.append(judge(policy((shift,)), evidence, look, TODAY).status is wanted)
    return found


def normals(gates: int) -> Iterator[Cell]:
    """The table of exact normals."""
    rng = np.random.default_rng(1)
    plans = {1: plan(SAMPLES, 1, 1), 3: plan(SAMPLES, 1), 5: plan(SAMPLES, 4)}
    for metrics, looks in itertools.product((1, 2, 4, 10), plans):
        for equal in (True, False):
            name = f"{metrics} metric{'s' * (metrics > 1)}, {looks} look{'s' * (looks > 1)}"
            yield counted(name, WHAT[equal], looked_at(rng, gates, plans[looks], metrics, equal=equal))
    campaigns: dict[str, tuple[Sequence[int], bool]] = {
        "5 reruns": ((1, 1, 1, 1, 1), True),
        "5 new seeds of the candidate": ((1, 2, 3, 4, 5), False),
        "5 new seeds of both": ((1, 2, 3, 4, 5), True),
        "more_samples 1, 2, 4, 8, 16": ((1, 2, 4, 8, 16), True),
    }
    for (name, (runs, both)), equal in itertools.product(campaigns.items(), (True, False)):
        yield counted(name, WHAT[equal], again(rng, gates, runs, equal=equal, both=both))
    for count, spread, metrics in itertools.product((2, 3), (0.5, 3.0), (1, 4, 10)):
        for equal in (True, False) if metrics == 1 else (True,):
            name = (
                f"{count} seeds a side, spread {spread:g} x the samples' error, {metrics} metric{'s' * (metrics > 1)}"
            )
            yield counted(name, WHAT[equal], seeds(rng, gates, count, spread, metrics, equal=equal))
    for count, paired, equal in itertools.product((25, 100), (True, False), (True, False)):
        name = f"{count} prompts x 4 images, {'the same' if paired else 'other'} prompts on both sides"
        yield counted(name, WHAT[equal], prompts(rng, gates, count, 4, equal=equal, paired=paired))


WHAT = {True: "equal fail", False: "at the margin pass"}


# --- drawn features ---


@dataclass(frozen=True)
class Drawn:
    """Fréchet distances of independent evaluations, whole and of a tenth with its halves and quarters."""

    whole: list[Observation]
    early: list[Observation]


def evaluate(draw: Callable[[int], np.ndarray], reference: Moments, samples: int, evaluations: int) -> Drawn:
    """Evaluations of one generator, each under its own seed."""
    whole, early = [], []
    for seed in range(evaluations):
        features = draw(seed)
        whole.append(_observed(features, reference))
        first = features[: samples // 10]
        part = _observed(first, reference)
        pieces = {k: [frechet_distance(p, reference).value for p in np.array_split(first, k)] for k in (2, 4)}
        moved = drift(part.value, pieces[2], pieces[4], 10)
        early.append(Observation(part.value, part.below, part.above, part.n, "early", drift=moved))
    return Drawn(whole, early)


def _observed(features: np.ndarray, reference: Moments) -> Observation:
    found = frechet_distance(features, reference)
    assert found.stderr is not None
    assert found.ci_low is not None
    assert found.ci_high is not None
    below, above = (max(found.stderr, gap / 1.96) for gap in (found.value - found.ci_low, found.ci_high - found.value))
    return Observation(found.value, below, above, len(features), "whole")


def cross(candidate: Drawn, baseline: Drawn, margin: float, *, same: bool) -> dict[str, np.ndarray]:
    """Outcomes of all cross pairs, those of one evaluation with itself left out, early look first."""
    limits = policy((margin,))
    early, whole = (plan(SAMPLES, 1)[i] for i in (0, -1))
    count = len(candidate.whole)
    found = {name: np.full((count, count), np.nan) for name in ("PASS", "FAIL", "early FAIL")}
    for i, j in itertools.product(range(count), range(count)):
        if same and i == j:
            continue
        first = Evidence("m0", "lower", candidate.early[i], baseline.early[j], partial=True)
        status = judge(limits, {"m0": first}, early, TODAY, final=False).status
        found["early FAIL"][i, j] = status is Status.FAIL
        if status is Status.INCONCLUSIVE:
            last = Evidence("m0", "lower", candidate.whole[i], baseline.whole[j])
            status = judge(limits, {"m0": last}, whole, TODAY).status
        for name in ("PASS", "FAIL"):
            found[name][i, j] = status is Status(name)
    return found


def jackknife(outcomes: np.ndarray) -> tuple[float, float]:
    """The mean over pairs, and its standard error over evaluations of both sides (rows and columns left out)."""
    mean = float(np.nanmean(outcomes))
    count = len(outcomes)
    variance = 0.0
    for axis in (0, 1):
        left_out = np.array([np.nanmean(np.delete(outcomes, i, axis)) for i in range(count)])
        variance += (count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum())
    return mean, math.sqrt(variance)


def features(evaluations: int, dimensions: Sequence[int]) -> Iterator[str]:
    """The table of drawn features: Fréchet distance to a reference of known moments."""
    for d, spectrum in itertools.product(dimensions, ("isotropic", "1/k")):
        scales = np.ones(d) if spectrum == "isotropic" else 1 / np.arange(1, d + 1)
        cov = torch.from_numpy(np.diag(scales))
        reference = Moments.of_sums(10**7, torch.zeros(d, dtype=torch.float64), cov * (10**7 - 1))

        def normal(variance: np.ndarray | float, base: int, scales: np.ndarray = scales) -> Callable[[int], np.ndarray]:
            width = np.sqrt(scales * variance)
            return lambda seed: (
                np.random.default_rng([base, seed]).standard_normal((SAMPLES, len(width))) * width
            ).astype(np.float32)

        file = _in_classes(scales)

        def ordered(seed: int, file: np.ndarray = file) -> np.ndarray:
            first: np.ndarray = file[order(seed, len(file))[:SAMPLES]]
            return first

        good = evaluate(normal(1.0, 1), reference, SAMPLES, evaluations)
        where = f"d = {d}, {spectrum}"
        yield _row(where, "equal fail", cross(good, good, 0.0, same=True)["FAIL"], LEVEL)
        few = np.zeros(d)
        few[: max(1, d // 16)] = 1.0
        kinds = {
            "narrower": normal(0.8, 2),
            "wider": normal(1.25, 3),
            "collapsed": normal(few, 4),
            "ordered file": ordered,
        }
        for name, draw in kinds.items():
            worse = evaluate(draw, reference, SAMPLES, evaluations)
            gap = float(np.mean([a.value for a in worse.whole]) - np.mean([a.value for a in good.whole]))
            if gap <= 0:
                yield f"| {where}, {name} | not worse | | |"
                continue
            at = cross(worse, good, gap, same=False)
            yield _row(f"{where}, {name}", "at the margin pass", at["PASS"], LEVEL)
            yield _row(f"{where}, {name}", "at the margin fail", at["FAIL"], LEVEL)
            margin = passing_margin(math.hypot(_noise(good), _noise(worse)), 1 - 2 * LEVEL, SAMPLES)
            if gap > margin:
                beyond = cross(worse, good, gap - margin, same=False)
                yield _row(f"{where}, {name}", "by the calibrated margin beyond it fail", beyond["FAIL"], 0.95)
            if name == "collapsed":
                first = cross(worse, good, gap / 2, same=False)["early FAIL"]
                yield _row(f"{where}, {name}", "twice the margin fail on a tenth of the samples", first, 0.95)


def shared_noise(gates: int, dimensions: Sequence[int]) -> Iterator[Cell]:
    """Gates of two generators under one seed, whose samples correlate: Fréchet distances that are paired.

    Equal checkpoints (the same law, correlated 0.83), and a narrower one at the mean gap of these gates.
    """
    look = plan(SAMPLES, 1)[-1]
    for d, spectrum in itertools.product(dimensions, ("isotropic", "1/k")):
        scales = np.ones(d) if spectrum == "isotropic" else 1 / np.arange(1, d + 1)
        reference = Moments.of_sums(
            10**7, torch.zeros(d, dtype=torch.float64), torch.from_numpy(np.diag(scales)) * (10**7 - 1)
        )

        def pair(seed: int, variance: float, scales: np.ndarray = scales) -> list[np.ndarray]:
            rng = np.random.default_rng([7, seed])
            common, own = rng.standard_normal((2, SAMPLES, len(scales)))
            candidate = math.sqrt(variance) * (0.83 * common + math.sqrt(1 - 0.83**2) * own)
            return [(x * np.sqrt(scales)).astype(np.float32) for x in (candidate, common)]

        for name, variance, equal in (("equal", 1.0, True), ("narrower", 0.8, False)):
            found = [[frechet_distance(x, reference) for x in pair(seed, variance)] for seed in range(gates)]
            margin = 0.0 if equal else float(np.mean([a.value - b.value for a, b in found]))
            outcomes = []
            for scores in found:
                sides = [
                    pool([Run(s.value, s.stderr, s.ci_low, s.ci_high, s.n, "p", {}, "", side + 1, 0, s.influence, "n")])
                    for side, s in enumerate(scores)
                ]
                evidence = {"m0": Evidence("m0", "lower", sides[0], sides[1])}
                status = judge(policy((margin,)), evidence, look, TODAY).status
                outcomes.append(status is (Status.FAIL if equal else Status.PASS))
            yield counted(f"d = {d}, {spectrum}, shared noise, {name}", WHAT[equal], outcomes)


def references(gates: int) -> Iterator[Cell]:
    """Two models equally far from the truth, in other directions, beside a reference that is drawn anew for each gate.

    A limit on any worsening must fail a model that is not worse in 2.5 % at most. On each file, one of both is worse.
    """
    look, d = plan(SAMPLES, 1)[-1], 8
    for rows, distance in itertools.product((200, 1000), (0.1, 0.5)):
        failed: dict[str, list[bool]] = {"fixed": [], "sampled": []}
        for seed in range(gates):
            rng = np.random.default_rng([11, rows, seed])
            reference = rng.standard_normal((rows, d)).astype(np.float32)
            sides = []
            for side in (0, 1):
                x = rng.standard_normal((SAMPLES, d)).astype(np.float32)
                x[:, side] += distance
                score = frechet_distance(x, reference)
                facts, more = {"reference": f"file {seed}"}, {"run": side + 1, "units": f"{side}"}
                sides.append(pool([Run.of(score, "p", facts, influence=score.influence, **more)]))
            evidence = {"m0": Evidence("m0", "lower", sides[0], sides[1])}
            for which, outcomes in failed.items():
                gate = policy((0.0,)).model_copy(update={"reference": which})
                outcomes.append(judge(gate, evidence, look, TODAY).status is Status.FAIL)
        for which, outcomes in failed.items():
            yield counted(f"{rows} rows, mean off by {distance:g}, reference: {which}", WHAT[True], outcomes)


def _noise(drawn: Drawn) -> float:
    """The error of one evaluation, claimed or seen, whichever is larger."""
    claimed = float(np.mean([max(each.below or 0.0, each.above or 0.0) for each in drawn.whole]))
    return max(claimed, float(np.std([each.value for each in drawn.whole], ddof=1)))


def _in_classes(scales: np.ndarray) -> np.ndarray:
    """A file of five times the samples in order of ten classes, of which each seed's keyed order takes some."""
    rng = np.random.default_rng(9)
    classes = np.repeat(rng.standard_normal((10, len(scales))) * np.sqrt(scales / 2), SAMPLES // 2, 0)
    return (classes + rng.standard_normal(classes.shape) * np.sqrt(scales / 2)).astype(np.float32)


def _row(name: str, what: str, outcomes: np.ndarray, promise: float) -> str:
    rate, error = jackknife(outcomes)
    kept = rate + 3 * error >= promise if promise > 0.5 else rate <= promise + 3 * error
    bound = f"at least {100 * promise:.0f} %" if promise > 0.5 else f"{100 * promise:.1f} %"
    return f"| {name} | {what} | {100 * rate:.2f} +- {100 * error:.2f} % | {bound}{'' if kept else ' **beyond**'} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=("normals", "features", "shared", "references"))
    parser.add_argument("--gates", type=int, default=20_000, help="gates of a cell")
    parser.add_argument("--evaluations", type=int, default=80, help="evaluations of a side")
    parser.add_argument("--dimensions", type=int, nargs="*", default=[64, 512])
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: Iterator[object] = {
        "normals": lambda: normals(given.gates),
        "features": lambda: features(given.evaluations, given.dimensions),
        "shared": lambda: shared_noise(200, given.dimensions),
        "references": lambda: references(min(given.gates, 1000)),
    }[given.table]()
    for row in rows:
        print(row, flush=True)


if __name__ == "__main__":
    main()
