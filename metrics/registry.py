"""The one table of metrics: what each needs, what it returns, and which way is better.

A metric is declared where it is written::

    @metric(Quantity("kernel_distance", Direction.LOWER, unit="kernel units"), version=1)
    def kernel_distance(generated, reference, subsets=100): ...
        return score("kernel_distance", value, stderr, n=len(generated), method="u-statistic")

Required parameters are the inputs a caller must supply by name; parameters with a default are options.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from metrics.influence import Influence
from metrics.score import UNPAIRED, Z95, Direction, MetricError, Score
from metrics.units import Units

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number a metric can return: its direction, unit and closed range.

    ``unbiased_in_n`` declares whether its expectation is the same for every number of generated samples, as that of a
    mean over samples or of a ratio of two such means is (whose bias of order 1 / n is far below its error); where that
    depends on options, a function of all of them. The default is the safe answer.
    """

    name: str
    direction: Direction
    unit: str
    low: float = -math.inf
    high: float = math.inf
    unbiased_in_n: bool | Callable[[Mapping[str, Any]], bool] = False


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A registered metric. ``version`` rises whenever the same inputs may give another number."""

    name: str
    function: Callable[..., Any]
    quantities: tuple[Quantity, ...]
    version: int

    @property
    def plan(self) -> Callable[..., Any] | None:
        """Of a metric over all pairs of rows, what :func:`metrics.pairs.measure` takes."""
        return getattr(self.function, "plan", None)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the arrays the caller must supply, in order."""
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(p.name for p in parameters if p.default is p.empty)

    @property
    def options(self) -> Mapping[str, Any]:
        """Names of the optional parameters with their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    def unbiased_in_n(self, quantity: Quantity, options: Mapping[str, Any]) -> bool:
        """Whether the number of generated samples leaves the expectation of a quantity alone under these options."""
        declared = quantity.unbiased_in_n
        return declared({**self.options, **options}) if callable(declared) else declared


METRICS: dict[str, MetricSpec] = {}
QUANTITIES: dict[str, Quantity] = {}


def metric(*quantities: Quantity, version: int) -> Callable[[F], F]:
    """Register the decorated function under its own name, returning the given quantities."""

    def register(function: F) -> F:
        for quantity in quantities:
            if QUANTITIES.setdefault(quantity.name, quantity) != quantity:
                raise ValueError(f"quantity {quantity.name!r} is declared twice, differently")
        METRICS[function.__name__] = MetricSpec(function.__name__, function, quantities, version)
        return function

    return register


def score(
    name: str,
    value: float,
    stderr: float | None,
    *,
    n: int,
    method: str,
    interval: tuple[float, float] | None = None,
    details: Mapping[str, float] | None = None,
    influence: Influence | str = UNPAIRED,
    units: Units | None = None,
) -> Score:
    """Build the :class:`Score` of a registered quantity.

    The interval is ``value +- 1.96 stderr`` unless one is given, cut to the quantity's range, never past the value.
    ``method`` names how ``stderr`` was found, or, where it is ``None``, the reason; a score without an error has no
    influence either. ``units`` that are groups widen the interval by Student's t, and too few of them leave no error.
    """
    quantity = QUANTITIES[name]
    if not math.isfinite(value):
        raise MetricError(f"{name}: the inputs give {value}, which is not a score")
    low = high = None
    if units and units.clustered:
        method = units.too_few or units.described(method)
        stderr = None if units.too_few else stderr
        details = {**(details or {}), "groups": float(units.count)}
    if stderr is None:
        influence = method
    else:
        reach = (units.quantile if units else Z95) * stderr
        low, high = interval or (value - reach, value + reach)
        # The value lies in its own interval, also where an interval's formula lost that to rounding.
        low, high = min(max(low, quantity.low), value), max(min(high, quantity.high), value)
    return Score(
        name=name,
        value=float(value),
        stderr=None if stderr is None else float(stderr),
        ci_low=None if low is None else float(low),
        ci_high=None if high is None else float(high),
        n=n,
        direction=quantity.direction,
        unit=quantity.unit,
        stderr_method=method,
        details=MappingProxyType(dict(details or {})),
        influence=influence,
    )
