"""Aggregates of a scorer's values over items, with errors clustered by item or group.

A value of NaN is "not applicable": the row is left out and counted in ``details``. Influences are of all units of the
evaluation, so that two checkpoints pair where different rows apply to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Bool, Float64, Shaped

from evalsvc.metrics.members import Members
from evalsvc.metrics.registry import Quantity, metric
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.units import Groups, Units

FAILED = Quantity("failed", Direction.LOWER, "share", 0.0, 1.0, True, title="Failed samples", title_zh="失败的样本")
Values: TypeAlias = Float64[np.ndarray, " n"]
Items: TypeAlias = Shaped[np.ndarray, " n"]
Draws: TypeAlias = Annotated[int, Ge(1), Le(1000)]


def _mean(sums: Float64[np.ndarray, "*batch 2"]) -> Float64[np.ndarray, " *batch"]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def _derive_mean(quantity: Quantity, _options: Mapping[str, Any]) -> tuple[Quantity, ...]:
    return (replace(quantity, unbiased_in_n=True),)


@metric(version=1, derive=_derive_mean)
def mean(values: Values, quantity: Quantity, groups: Groups | None = None) -> Score:
    """Mean of the values that there are.

    A quantity in [0, 1] has a binomial interval at its effective number of samples, any other Student's t.
    """
    quantity = _derive_mean(quantity, {})[0]
    there = np.isfinite(values)
    members = Members.of(Units.of(len(values), groups), there)
    mine = values[require(members, quantity).rows]
    value, moves = members.moves(np.stack([mine, np.ones(len(mine))], axis=1), _mean)
    flags = not members.units.clustered and bool(np.isin(mine, (0.0, 1.0)).all())
    result = members.score(quantity, value, moves, details=absent(there), flags=flags)
    within = members.within(mine - value)
    if within is None or isinstance(result.influence, str):
        return result
    return replace(result, influence=replace(result.influence, within=within))


@metric(version=1, derive=lambda _quantity, _options: (FAILED,))
def failed_share(failures: Values, groups: Groups | None = None) -> Score:
    """Share of the samples that failed: that could not be drawn, or crashed what scores them."""
    return mean((np.asarray(failures) != 0).astype(np.float64), FAILED, groups)


def _derive_pass_at(quantity: Quantity, options: Mapping[str, Any]) -> tuple[Quantity, ...]:
    if quantity.direction is not Direction.HIGHER or (quantity.low, quantity.high) != (0.0, 1.0):
        raise ValueError(
            f"pass_at needs a quantity of 0 or 1 of which higher is better, not {quantity.name!r}: use mean"
        )
    k = options["k"]
    return (derived(quantity, f"pass_at_{k}", f"*, one of {k}", f"*，{k} 次之一"),)


@metric(version=1, derive=_derive_pass_at)
def pass_at(
    values: Values,
    items: Items,
    quantity: Quantity,
    groups: Groups | None = None,
    k: Annotated[int, Ge(1), Le(1000)] = 1,
) -> Score:
    """Probability that one of ``k`` draws of an item passes, mean over items (Chen et al., 2021, arXiv:2107.03374).

    Of n draws of which c pass it is ``1 - C(n - c, k) / C(n, k)``, without bias for any n of at least ``k``. Items with
    fewer draws that have a value are left out, and counted as ``too_few_draws``. ``values`` are 0 or 1.
    """
    there = np.isfinite(values)
    if not np.isin(values[there], (0.0, 1.0)).all():
        raise MetricError(
            f"pass_at counts passes, but {quantity.name} has values other than 0 and 1: use mean or best_of"
        )
    table = _Draws.of(values, items, groups)
    failed = table.counts - np.bincount(table.item[there], values[there], minlength=len(table.counts))
    chance = np.ones(len(failed))
    for i in range(k):  # C(n - c, k) / C(n, k), factor by factor
        chance *= np.clip(failed - i, 0, None) / np.maximum(table.counts - i, 1)
    return table.mean(_derive_pass_at(quantity, {"k": k})[0], 1 - chance, table.counts >= k, there)


def _derive_best_of(quantity: Quantity, _options: Mapping[str, Any]) -> tuple[Quantity, ...]:
    if quantity.direction is Direction.NEUTRAL:
        raise ValueError(f"best_of needs a better direction, which {quantity.name!r} lacks: use mean or quantile")
    return (derived(quantity, f"{quantity.name}_best_of", "*, best draw", "*，最佳抽样"),)


@metric(version=1, derive=_derive_best_of)
def best_of(values: Values, items: Items, quantity: Quantity, groups: Groups | None = None) -> Score:
    """Mean over items of the best of their draws.

    More draws have a better best: items with fewer values than others are left out, and counted as ``too_few_draws``.
    """
    there, table = np.isfinite(values), _Draws.of(values, items, groups)
    sign = 1.0 if quantity.direction is Direction.HIGHER else -1.0
    best = np.full(len(table.counts), -np.inf)
    np.maximum.at(best, table.item[there], sign * values[there])
    best = sign * best
    result = table.mean(_derive_best_of(quantity, {})[0], best, table.counts >= max(1, table.counts.max()), there)
    return replace(result, details=MappingProxyType({**result.details, "draws": float(table.counts.max())}))


@dataclass(frozen=True, eq=False)
class _Draws:
    """The item of each row, by number; and of each item the rows that have a value, and its unit."""

    item: np.ndarray
    counts: np.ndarray
    owner: np.ndarray
    every: Units

    @classmethod
    def of(cls, values: Values, items: Items, groups: Groups | None) -> _Draws:
        names, first, item = np.unique(items, return_index=True, return_inverse=True)
        item = item.reshape(-1)
        every = Units.of(len(values), items if groups is None and len(names) < len(values) else groups)
        counts = np.bincount(item[np.isfinite(values)], minlength=len(names))
        return cls(item, counts, first if every.owner is None else every.owner[first], every)

    def mean(self, quantity: Quantity, by_item: Values, usable: Bool[np.ndarray, " n"], there: np.ndarray) -> Score:
        """The mean of a value of each usable item; ``n`` counts the rows behind it."""
        details = absent(there)
        details["items"] = float(usable.sum())
        if few := float((~usable & (self.counts > 0)).sum()):
            details["too_few_draws"] = few
        members = require(Members.of(self.every, usable, self.owner), quantity)
        mine = by_item[members.rows]
        value, moves = members.moves(np.stack([mine, np.ones(len(mine))], axis=1), _mean)
        flags = not members.units.clustered and bool(np.isin(mine, (0.0, 1.0)).all())
        result = members.score(quantity, value, moves, details=details, flags=flags)
        grouped = MappingProxyType({**result.details, "groups": float(members.units.count)})
        return replace(result, n=int(self.counts[usable].sum()), details=grouped)


def absent(there: Bool[np.ndarray, " n"]) -> dict[str, float]:
    """The number of rows that a score does not apply to, as a detail."""
    return {} if there.all() else {"not_applicable": float((~there).sum())}


def require(members: Members, quantity: Quantity) -> Members:
    """The same members.

    Raises:
        MetricError: there are none.
    """
    if not len(members.rows):
        raise MetricError(f"{quantity.name} applies to none of the {members.every.rows} samples")
    return members


def derived(quantity: Quantity, name: str, title: str, title_zh: str) -> Quantity:
    """The quantity that an aggregate other than the mean makes of a scorer's; ``*`` in titles stands for its own."""
    named = {language: quantity.titled(language) for language in ("en", "zh")}
    return replace(
        quantity,
        name=name,
        title=title.replace("*", named["en"]),
        title_zh=title_zh.replace("*", named["zh"]),
        corpus="",
        sums=(),
        unbiased_in_n=True,
    )
