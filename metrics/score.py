"""The result of every metric: a value with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from evalsvc.metrics.errors import MetricError as MetricError
from evalsvc.metrics.influence import Influence

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal law: half a 95 % interval in standard errors."""


UNPAIRED = "this metric keeps no influences"


class Direction(StrEnum):
    """Which way is better. ``NEUTRAL`` quantities describe; they never rank."""

    LOWER = "lower"
    HIGHER = "higher"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Score:
    """One number with its uncertainty.

    ``ci_low`` and ``ci_high`` bound a 95 % confidence interval for the expectation of ``value`` at this ``n``.
    Where no honest standard error exists, ``stderr`` and the interval are ``None`` and ``stderr_method``
    says why. ``influence`` pairs the score with another over the same units (:func:`evalsvc.metrics.influence.paired`),
    or says why it cannot be paired; it takes no part in equality. Where the independent units are groups of samples,
    ``details["groups"]`` is their number.
    """

    name: str
    value: float
    stderr: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    direction: Direction
    unit: str
    stderr_method: str
    details: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    influence: Influence | str = field(default=UNPAIRED, compare=False, repr=False)

    def __post_init__(self) -> None:
        for label in ("value", "stderr", "ci_low", "ci_high"):
            number = getattr(self, label)
            if number is not None and not math.isfinite(number):
                raise MetricError(f"{self.name}: {label} is {number}, which is not a score")

    def __float__(self) -> float:
        return self.value

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy can neither be pickled nor copied.
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return _restore, (values | {"details": dict(self.details)},)


def _restore(values: dict[str, Any]) -> Score:
    return Score(**values | {"details": MappingProxyType(values["details"])})
