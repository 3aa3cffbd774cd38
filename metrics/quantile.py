"""Quantiles of a scorer's values, with intervals from order statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Lt

from evalsvc.metrics.aggregates import Values, absent, derived, require
from evalsvc.metrics.intervals import TAIL, bounds, student
from evalsvc.metrics.members import Members
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import Score
from evalsvc.metrics.units import Groups, Units


def _derive(quantity: Quantity, options: Mapping[str, Any]) -> tuple[Quantity, ...]:
    percent = f"{100 * options['q']:g}"
    name = f"{quantity.name}_p{percent}"
    return (
        replace(derived(quantity, name, f"*, percentile {percent}", f"*，第 {percent} 百分位"), unbiased_in_n=False),
    )


@metric(version=1, derive=_derive)
def quantile(
    values: Values, quantity: Quantity, groups: Groups | None = None, q: Annotated[float, Gt(0), Lt(1)] = 0.95
) -> Score:
    """Quantile of the values that there are: the 95th percentile for ``q`` 0.95.

    The interval is that of the share of values up to it, read off the sorted values (Woodruff, 1952); the influence is
    that on the share, over the density that the interval implies.
    """
    ranked, there = _derive(quantity, {"q": q})[0], np.isfinite(values)
    members = require(Members.of(Units.of(len(values), groups), there), ranked)
    mine = np.asarray(values, np.float64)[members.rows]
    value = float(np.quantile(mine, q, method="inverted_cdf"))
    details, count = absent(there), members.units.count
    if max(q, 1 - q) ** count > TAIL:
        reason = f"none: {count} independent values say too little about percentile {100 * q:g}"
        return score(ranked, value, None, n=len(mine), method=reason, details=details, units=members.units)
    below = np.where(mine < value, 1.0, np.where(mine > value, 0.0, _at(mine, value, q)))
    sums = np.stack([below, np.ones(len(mine))], axis=1)
    _, moves = members.moves(sums, lambda each: np.asarray(each[..., 0] / each[..., 1]))
    spread = max(float(np.sqrt((1 - 1 / count) * (moves @ moves))), 1 / (2 * count))
    down, up = bounds(q, spread, count, (0.0, 1.0))
    low, high = float(np.quantile(mine, down, method="lower")), float(np.quantile(mine, up, method="higher"))
    stderr = (high - low) / (2 * student(count))
    method = "order statistics of the interval of a share"
    if not stderr:
        return score(
            ranked, value, None, n=len(mine), method="none: the values around it are all equal", details=details
        )
    influence = members.influence(-moves * (stderr / spread))
    return score(
        ranked,
        value,
        stderr,
        n=len(mine),
        method=method,
        interval=(low, high),
        details=details,
        influence=influence,
        units=members.units,
    )


def _at(mine: Values, value: float, q: float) -> float:
    """The part of the values equal to the quantile that lies below it, so that exactly ``q`` of all do."""
    return float(np.clip((q * len(mine) - (mine < value).sum()) / (mine == value).sum(), 0.0, 1.0))
