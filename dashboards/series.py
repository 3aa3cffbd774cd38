"""Data series of charts: lines with gaps, best values so far, past limits, the Pareto front."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evalsvc.analysis.leaderboard import interval_of
from evalsvc.dashboards.formatting import interval, number
from evalsvc.gates.reports.text import limit as limit_words
from evalsvc.metrics.registry import METRICS, Quantity
from evalsvc.store.dashboard_queries import Measured, Point
from evalsvc.store.status_queries import Failed
from evalsvc.store.tables import Gate


def lines(points: list[Point], failures: list[Failed], log: bool) -> list[dict[str, Any]]:
    """Rows of the chart; the line of a model in a configuration is interrupted after each step whose
    evaluation failed.
    """
    gaps = {
        name: sorted(failed.step for failed in failures if failed.line == name) for name in {p.line for p in points}
    }
    rows = []
    for point in points:
        run = sum(step < point.step for step in gaps[point.line])
        ends = interval_of(point, "sampled")
        low, high = (point.value if end is None else end for end in ends)
        rows.append(
            {
                "model": point.line,
                "step": point.step,
                "value": point.value,
                "low": max(low, point.value / 100) if log else low,
                "high": high,
                "run": f"{point.line}/{run}",
                "words": interval(*ends),
            }
        )
    return rows


def line_names(points: Sequence[Point], models: Sequence[str]) -> list[str]:
    """The lines of some models, in the order of the models; the model's name if it has no points."""
    lines = {model: list(dict.fromkeys(point.line for point in points if point.model == model)) for model in models}
    return [name for model, names in lines.items() for name in names or [model]]


def loss(point: Point, direction: str) -> float:
    """Lower is better: the distance from the right value where there is one, or else the value in its direction."""
    if point.target is not None:
        return abs(point.value - point.target)
    return -point.value if direction == "higher" else point.value


def right_values(points: list[Point], log: bool) -> list[dict[str, Any]]:
    """The right values of these scores, each with its words; on a logarithmic scale the positive ones."""
    found = dict.fromkeys(point.target for point in points if point.target is not None)
    return [{"value": value, "words": number(value)} for value in found if value > 0 or not log]


def best_so_far(points: list[Point], direction: str) -> list[Point]:
    """The best score of the model up to each step."""
    found: dict[str, Point] = {}
    made = []
    for point in points:
        now = min(found.get(point.line, point), point, key=lambda each: loss(each, direction))
        found[point.line] = now
        made.append(replace(now, step=point.step))
    return made


def gate_lines(gates: list[Gate], metric: Measured) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The limits that gates applied to this metric, each at its candidate's step, and the baselines' values at that
    time.

    A limit on worsening is placed at the permitted distance from the baseline, on the scale of the metric.
    """
    limits, baselines = [], {}
    for gate in gates:
        seen = gate.evidence["metrics"].get(metric.label) or {}
        baseline = seen.get("baseline") or {}
        base = baseline.get("value") if isinstance(baseline.get("value"), float) else None
        for verdict in gate.verdict["metrics"]:
            if verdict["metric"] != metric.label or gate.step is None:
                continue
            for found in verdict["limits"]:
                at = on_scale(found["kind"], found["limit"], base, metric.direction)
                if at is not None:
                    asked = limit_words(found["kind"], found["limit"])
                    words = f"{asked} → {number(at)} · {found['status']} · gate {gate.id}"
                    limits.append({"step": gate.step, "limit": at, "status": found["status"], "words": words})
        if base is not None:
            baselines[base] = {"value": base, "words": f"{gate.baseline} · {number(base)}"}
    return limits, list(baselines.values())


def on_scale(kind: str, limit: float, baseline: float | None, direction: str) -> float | None:
    """A limit as a value of the metric itself; ``None`` if it depends on a missing baseline."""
    if kind in ("max", "min"):
        return limit
    if baseline is None or not kind.startswith("max_worsening"):
        return None
    margin = abs(baseline) * limit if kind == "max_worsening_rel" else limit
    return baseline + margin if direction == "lower" else baseline - margin


def pareto(points: Sequence[tuple[float, float]], directions: Sequence[str]) -> list[bool]:
    """For each point, whether it is Pareto optimal: no other point is at least as good in both and better in one."""
    signed = [tuple(-v if d == "higher" else v for v, d in zip(point, directions, strict=True)) for point in points]
    found = [False] * len(points)
    best, last = float("inf"), None
    for index in sorted(range(len(points)), key=lambda i: signed[i]):
        if signed[index][1] < best or signed[index] == last:
            found[index], best, last = True, signed[index][1], signed[index]
    return found


def pairs(quantities: Mapping[str, Quantity], axes: Collection[str]) -> list[tuple[str, str]]:
    """The pairs among ``axes`` that quantities declare; pairs of one metric come first."""
    found = [(x, y) for x, quantity in quantities.items() for y in quantity.beside if {x, y} <= set(axes)]
    together = [{each.name for each in spec.quantities} for spec in METRICS.values()]
    return sorted(found, key=lambda pair: not any(set(pair) <= names for names in together))
