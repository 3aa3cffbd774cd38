"""All pairs of rows of a reference and a generated set, in one pass for every metric that looks at them."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, runtime_checkable

from evalsvc.metrics.distances import Block, side_by_side, sweep
from evalsvc.metrics.full_precision import full_precision
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.points import Points, common_frame

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Side = Literal["reference", "generated"]


class Visitor(ABC, Generic[R]):
    """The computation of one metric over the pairs: those within each set first, then those across.

    Blocks are shared and must not be written to. The pairs within the two sets may come from two threads at once.
    """

    seeks: frozenset[Side | Literal["across"]] = frozenset()
    """The pairs it wants to see."""

    def within(self, side: Side, block: Block) -> None:
        """Take in a block of a symmetric sweep over one set."""

    def settle(self, side: Side) -> None:
        """All pairs within that set have been seen."""

    def across(self, block: Block) -> None:
        """Take in a block of reference rows against generated columns."""

    @abstractmethod
    def result(self) -> R:
        """The result, after all pairs have been seen."""


def _as_it_is(found: Any) -> Any:
    return found


@dataclass(frozen=True)
class Plan(Generic[R]):
    """A visitor to create, the two sets that it will visit, and the type in which products of their rows are taken.

    ``visitor`` takes the reference, then the generated set; ``finish`` converts the result of the visitor.
    """

    generated: Tensor
    reference: Tensor
    visitor: Callable[[Points, Points], Visitor[Any]]
    finish: Callable[[Any], R] = _as_it_is
    dtype: torch.dtype = field(default_factory=lambda: torch.float32)

    @property
    def pairs(self) -> tuple[Any, ...]:
        """Equal for plans that can share a pass."""
        return self.dtype, *((x.data_ptr(), x.shape, x.stride(), x.dtype) for x in (self.reference, self.generated))


@runtime_checkable
class OverPairs(Protocol[P, R_co]):
    """A metric over all pairs: called it measures alone, its ``plan`` can be measured together with others."""

    plan: Callable[P, Plan[Any]]

    def __call__(self, *args: P.args, **options: P.kwargs) -> R_co:
        """The result of the plan."""


def over_pairs(plan: Callable[P, Plan[R]]) -> OverPairs[P, R]:
    """The metric that a plan is of."""

    @functools.wraps(plan)
    def function(*args: P.args, **options: P.kwargs) -> R:
        result: R = measure([plan(*args, **options)])[0]
        return result

    function.plan = plan  # type: ignore[attr-defined]
    return cast(OverPairs[P, R], function)


@full_precision()
def measure(plans: Sequence[Plan[Any]]) -> list[Any]:
    """The result of each plan, in order; plans over the same two arrays share one pass over the pairs."""
    results: dict[int, Any] = {}
    together: dict[Any, list[int]] = {}
    for place, plan in enumerate(plans):
        together.setdefault(plan.pairs, []).append(place)
    for places in together.values():
        first = plans[places[0]]
        reference, generated = common_frame(first.reference, first.generated, dtype=first.dtype)
        visitors = {place: plans[place].visitor(reference, generated) for place in places}
        _visit(reference, generated, list(visitors.values()))
        results |= {place: plans[place].finish(visitor.result()) for place, visitor in visitors.items()}
    return [results[place] for place in range(len(plans))]


def _visit(reference: Points, generated: Points, visitors: Sequence[Visitor[Any]]) -> None:
    def within(side: Side, points: Points) -> None:
        asking = [visitor for visitor in visitors if side in visitor.seeks]
        for block in sweep(points, points, symmetric=True) if asking else ():
            for visitor in asking:
                visitor.within(side, block)
        for visitor in asking:
            visitor.settle(side)

    sides = {side for visitor in visitors for side in visitor.seeks}
    few, many = sorted((len(reference), len(generated)))
    if {"reference", "generated"} <= sides and 4 * many <= 5 * few and reference.device.type == "cpu":
        side_by_side(lambda: within("reference", reference), lambda: within("generated", generated))
    else:
        within("reference", reference)
        within("generated", generated)
    asking = [visitor for visitor in visitors if "across" in visitor.seeks]
    for block in sweep(reference, generated) if asking else ():
        for visitor in asking:
            visitor.across(block)
