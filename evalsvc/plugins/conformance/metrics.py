"""Conformance of metrics: finite scores of the declared quantities, within their ranges, deterministic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from evalsvc.metrics.inputs import Form, Input, Source
from evalsvc.metrics.registry import MetricSpec, Quantity
from evalsvc.metrics.score import Score
from evalsvc.plugins.conformance.findings import Finding
from evalsvc.plugins.conformance.trial_samples import TEXTS

ROWS = {Source.SAMPLES: 96, Source.REFERENCE: 120}
"""Numbers of rows of trial inputs; samples and reference differ, as in evaluations."""
COLUMNS = 6


def check_metric(spec: MetricSpec) -> list[Finding]:
    """Call a metric with default options and read-only arrays, as evaluations do."""
    lacking = sorted(name for name, each in spec.inputs.items() if each.source is Source.CALLER)
    told = f"evaluations do not provide {', '.join(lacking)}" if lacking else ", ".join(spec.inputs)
    findings = [Finding("inputs: provided by evaluations", not lacking, told)]
    if lacking:
        return findings
    try:
        first, second = (_scores(spec.function(**_arguments(spec))) for _ in range(2))
    except Exception as error:
        return [*findings, Finding("scores of trial arrays", False, f"{type(error).__name__}: {error}")]
    findings.append(_returned(spec, first))
    quantities = {each.name: each for each in spec.quantities}
    findings += [_score(score, quantities[name]) for name, score in first.items() if name in quantities]
    equal = {name: score.value for name, score in first.items()} == {name: s.value for name, s in second.items()}
    findings.append(Finding("determinism: same arrays, second run", equal, "identical" if equal else "scores differ"))
    return findings


def _arguments(spec: MetricSpec) -> dict[str, Any]:
    noise = np.random.default_rng(7)
    return {name: _argument(each, noise) for name, each in spec.inputs.items()}


def _argument(given: Input, noise: np.random.Generator) -> Any:
    rows = ROWS.get(given.source, ROWS[Source.SAMPLES])
    if given.form is Form.TEXTS:
        return [f"{TEXTS[i % len(TEXTS)]} {i}" for i in range(rows)]
    if given.form is Form.NUMBERS:
        made = noise.integers(1, 100, rows).astype(np.float64)
    else:
        made = noise.standard_normal((rows, COLUMNS)).astype(np.float32)
    made.flags.writeable = False
    return made


def _scores(result: Score | Mapping[str, Score]) -> dict[str, Score]:
    scores = [result] if isinstance(result, Score) else list(result.values())
    return {score.name: score for score in scores}


def _returned(spec: MetricSpec, scores: Mapping[str, Score]) -> Finding:
    due = {each.name for each in spec.returned({})}
    told = ", ".join(sorted(scores)) if scores.keys() == due else f"returned {sorted(scores)}, declared {sorted(due)}"
    return Finding("quantities: as declared", scores.keys() == due, told)


def _score(score: Score, quantity: Quantity) -> Finding:
    inside = math.isfinite(score.value) and quantity.low <= score.value <= quantity.high
    sure = score.stderr is None or (math.isfinite(score.stderr) and score.stderr >= 0)
    told = f"{score.value:.6g}, in [{quantity.low:g}, {quantity.high:g}], error {score.stderr}, of {score.n}"
    return Finding(
        f"{score.name}: value in its range, standard error not negative", inside and sure and score.n > 0, told
    )
