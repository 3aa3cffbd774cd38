"""The result of every metric: a value with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

from evalsvc.metrics.errors import MetricError as MetricError
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.skewness import Z95 as Z95
from evalsvc.metrics.skewness import end_to_end, normal_quantile

UNPAIRED = "this metric keeps no influences"

Reference = Literal["fixed", "sampled"]
"""The extent of an error: this reference file, or the world that its rows are a sample of."""


class Direction(StrEnum):
    """Which way is better. ``NEUTRAL`` quantities describe; they never rank."""

    LOWER = "lower"
    HIGHER = "higher"
    NEUTRAL = "neutral"


_NUMBERS = ("value", "stderr", "ci_low", "ci_high", "skewness", "stderr_reference", "target", "target_stderr")


@dataclass(frozen=True, slots=True)
class Score:
    """One number with its uncertainty.

    ``ci_low`` and ``ci_high`` bound a 95 % confidence interval for the expectation of ``value`` at this ``n``.
    Where no honest standard error exists, ``stderr`` and the interval are ``None`` and ``stderr_method``
    says why. ``influence`` pairs the score with another over the same units (:func:`evalsvc.metrics.influence.paired`),
    or says why it cannot be paired; it takes no part in equality. Where the independent units are groups of samples,
    ``details["groups"]`` is their number.

    ``skewness`` is the third standardized cumulant of the error, which intervals at all levels follow
    (:func:`evalsvc.metrics.skewness.widths`): positive where errors upwards are larger than downwards, so that the
    expectation may lie further above the value than below it. ``stderr`` holds the reference fixed;
    ``stderr_reference`` is what redrawing the rows of the reference adds, ``None`` where ``reference_method`` says why
    it is unknown (0.0 with an empty ``reference_method`` of a score without a reference). ``reference`` is the
    influence of the reference's rows, which pairs the score with another against the same rows.

    ``target`` is the right value of a quantity of which neither direction is better, with its own error
    ``target_stderr``: the reference's value at the same number of samples, or a constant (error 0).
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
    skewness: float = 0.0
    stderr_reference: float | None = 0.0
    reference_method: str = ""
    reference: Influence | str = field(default="", compare=False, repr=False)
    target: float | None = None
    target_stderr: float | None = None

    def __post_init__(self) -> None:
        for label in (
            "value",
            "stderr",
            "ci_low",
            "ci_high",
            "skewness",
            "stderr_reference",
            "target",
            "target_stderr",
        ):
            number = getattr(self, label)
            if number is not None and not math.isfinite(number):
                raise MetricError(f"{self.name}: {label} is {number}, which is not a score")

    def interval(self, level: float = 0.95, reference: Reference = "fixed") -> tuple[float, float] | None:
        """The interval at a ``level`` of confidence in (0, 1); ``None`` where the error that it needs is unknown.

        ``reference`` chooses whether the error holds the reference fixed, or counts its rows as a sample too.
        """
        if not 0 < level < 1:
            raise MetricError(f"{level} is not a level of confidence: choose one between 0 and 1, such as 0.95")
        if self.stderr is None or self.ci_low is None or self.ci_high is None:
            return None
        known = 0.0 if reference == "fixed" else self.stderr_reference
        if known is None:
            return None
        freedom = self.influence.freedom if isinstance(self.influence, Influence) else math.inf
        sides = self.value - self.ci_low, self.ci_high - self.value
        z = normal_quantile(level)
        down, up = end_to_end(self.stderr, self.skewness, sides, z, freedom)
        return self.value - math.hypot(down, z * known), self.value + math.hypot(up, z * known)

    def __float__(self) -> float:
        return self.value

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy can neither be pickled nor copied.
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return _restore, (values | {"details": dict(self.details)},)


def _restore(values: dict[str, Any]) -> Score:
    return Score(**values | {"details": MappingProxyType(values["details"])})
