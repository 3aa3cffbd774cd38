"""Aggregates of a scorer's values over items, with errors clustered by item or group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.units import Groups, Units

FAILED = Quantity("failed", Direction.LOWER, "share", 0.0, 1.0, True, title="Failed samples", title_zh="失败的样本")


def _itself(quantity: Quantity, _options: Mapping[str, Any]) -> tuple[Quantity, ...]:
    return (quantity,)


@metric(version=1, derive=_itself)
def mean(values: Float64[np.ndarray, " n"], quantity: Quantity, groups: Groups | None = None) -> Score:
    """Mean of the values that there are; NaN is "not applicable" and counted in ``details``."""
    there = np.isfinite(values)
    if not there.any():
        raise MetricError(f"{quantity.name} applies to none of the {len(values)} samples")
    units = Units.of(int(there.sum()), None if groups is None else np.asarray(groups)[there])
    variance, influence = units.estimate(values[there])
    absent = {"not_applicable": float((~there).sum())} if not there.all() else {}
    return score(
        quantity,
        float(values[there].mean()),
        math.sqrt(variance),
        n=units.rows,
        method="spread between samples",
        details=absent,
        influence=influence,
        units=units,
    )


@metric(version=1, derive=lambda _quantity, _options: (FAILED,))
def failed_share(failures: Float64[np.ndarray, " n"], groups: Groups | None = None) -> Score:
    """Share of the samples that failed: that could not be drawn, or crashed what scores them."""
    return mean((np.asarray(failures) != 0).astype(np.float64), FAILED, groups)
