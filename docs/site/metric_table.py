"""The reference of metrics, from their registry."""

from __future__ import annotations

from docs.site.tables import code, table
from evalsvc.metrics.registry import METRICS, MetricSpec

INTRODUCTION = """# Metrics

Every metric is a pure function of arrays that returns a `Score`: a value with its standard error, its interval and
the method behind them. A suite names metrics by the names of this page. [Uncertainty](../explanations/uncertainty.md)
explains the error of each.
"""
ENTRY = """::: evalsvc.metrics.functional.{name}
    options:
      heading_level: 3
"""


def metrics_page() -> str:
    """Markdown of a table of all metrics, and of what each one's docstring says."""
    rows = [_row(METRICS[name]) for name in sorted(METRICS)]
    head = ("metric", "scores", "better", "unit", "range", "reads")
    entries = (ENTRY.format(name=name) for name in sorted(METRICS))
    return "\n".join([INTRODUCTION, table(head, rows), "## Functions\n", *entries])


def _row(spec: MetricSpec) -> tuple[str, ...]:
    link = f"[{code(spec.name)}](#evalsvc.metrics.functional.{spec.name})"
    reads = ", ".join(code(name) for name in spec.inputs)
    if spec.derive:
        return link, "those of a scorer", *["as the scorer's"] * 3, reads
    first = spec.quantities[0]
    names = [quantity.name for quantity in spec.quantities]
    shown = [names[0], "...", names[-1]] if len(names) > 5 else names
    scores = ", ".join(name if name == "..." else code(name) for name in shown)
    span = f"{first.low:g} to {first.high:g}"
    return link, scores, str(first.direction), first.unit, span, reads
