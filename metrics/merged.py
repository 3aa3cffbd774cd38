"""Values of all samples together, found from a state of each sample that merges with others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64

from evalsvc.metrics.aggregates import absent, require
from evalsvc.metrics.influence import LEAST, Influence
from evalsvc.metrics.intervals import bounds
from evalsvc.metrics.members import Members
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import MetricError, Score
from evalsvc.metrics.units import Groups, Units

MERGED = "merged"
"""The ``corpus`` of a quantity whose scorer keeps states."""
GROUPS = LEAST
"""Number of groups of units that the jackknife leaves out in turn."""


@dataclass(frozen=True, eq=False)
class SampleStates:
    """The state of each sample, ``None`` where it has none; how states merge, and the value of a quantity of one."""

    states: tuple[Any, ...]
    merge: Callable[[Sequence[Any]], Any]
    value: Callable[[Any, str], float]

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, rows: slice | Int64[np.ndarray, " k"]) -> SampleStates:
        chosen = self.states[rows] if isinstance(rows, slice) else tuple(self.states[row] for row in rows.tolist())
        return replace(self, states=chosen)

    def merged(self, rows: Int64[np.ndarray, " k"]) -> Any:
        """The state of these samples together, in ascending order."""
        return self.merge([self.states[row] for row in np.sort(rows).tolist()])


def _derive(quantity: Quantity, _options: Mapping[str, Any]) -> tuple[Quantity, ...]:
    if quantity.corpus != MERGED:
        raise ValueError(f"the scorer keeps no states of {quantity.name!r} that merge: use mean")
    return (quantity,)


@metric(version=1, derive=_derive)
def merged(
    states: SampleStates,
    quantity: Quantity,
    groups: Groups | None = None,
    error: Literal["jackknife", "none"] = "jackknife",
) -> Score:
    """Value of all samples together, from the states of the scorer that declares ``quantity``.

    The error is the jackknife over 20 random groups of units (items, or ``groups``), which are the same for every
    model: 21 values are found instead of one. Under 20 units there is none. A sample without a state is left out.

    Raises:
        MetricError: no sample has a state, or the value is not finite.
    """
    (quantity,) = _derive(quantity, {})
    there = np.array([state is not None for state in states.states], bool)
    members = require(Members.of(Units.of(len(states), groups), there), quantity)
    value = states.value(states.merged(members.rows), quantity.name)
    if not np.isfinite(value):
        raise MetricError(f"{quantity.name} of all samples is {value}, which is not a score")
    details, n = absent(there), len(members.rows)
    chosen = _groups(members.every.count)
    few = len(np.unique(chosen[members.at])) < GROUPS
    if few or error == "none":
        reason = f"none: fewer than {GROUPS} groups of items" if few else "none: the jackknife was left out"
        return score(quantity, value, None, n=n, method=reason, details=details, units=members.units)
    left_out = _left_out(states, quantity.name, members, chosen)
    if not np.isfinite(left_out).all():
        reason = "none: one group of items holds everything that the value is found from"
        return score(quantity, value, None, n=n, method=reason, details=details, units=members.units)
    moves = left_out.mean() - left_out
    stderr = float(np.sqrt((1 - 1 / GROUPS) * float(moves @ moves)))
    return score(
        quantity,
        value,
        stderr,
        n=n,
        method=f"jackknife over {GROUPS} groups of items",
        interval=bounds(value, stderr, GROUPS, (quantity.low, quantity.high)),
        details=details,
        influence=_influence(moves, members, chosen),
        units=members.units,
    )


def _groups(units: int) -> Int64[np.ndarray, " units"]:
    """The group of each unit, at random, always the same for this number of units."""
    return np.random.default_rng(units).permutation(units) % GROUPS


def _left_out(states: SampleStates, name: str, members: Members, chosen: np.ndarray) -> Float64[np.ndarray, " groups"]:
    """The value without each group; NaN if it does not exist."""
    owner = members.every.owner
    group = chosen[members.rows if owner is None else owner[members.rows]]
    parts = [states.merged(members.rows[group == i]) for i in range(GROUPS)]

    def without(i: int) -> float:
        try:
            return states.value(states.merge(parts[:i] + parts[i + 1 :]), name)
        except MetricError:
            return float("nan")

    return np.array([without(i) for i in range(GROUPS)])


def _influence(moves: Float64[np.ndarray, " groups"], members: Members, chosen: np.ndarray) -> Influence:
    """Influences of all units, whose variance is that of the jackknife with as many degrees of freedom as groups."""
    every, mine = members.every.count, chosen[members.at]
    sizes = np.maximum(1, np.bincount(mine, minlength=GROUPS))
    scaled = moves * np.sqrt((1 - 1 / GROUPS) * every * max(1, every - 1) / sizes)
    whole = np.zeros(every, np.float32)
    whole[members.at] = scaled[mine]
    return Influence(every, whole, student=True, members=GROUPS)
