"""The table of metrics: everything that is known of a metric without calling it.

A metric is declared where it is written::

    @metric(
        Quantity("kernel_distance", Direction.LOWER, unit="kernel units", title="Kernel distance", title_zh="核距离"),
        version=1,
    )
    def kernel_distance(generated, reference, subsets=100): ...
        return score("kernel_distance", value, stderr, n=len(generated), method="u-statistic")

Required parameters are the inputs a caller must supply by name (:data:`evalsvc.metrics.inputs.INPUTS`); parameters with
a default are options.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from evalsvc.metrics.devices import where_inputs_are
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.inputs import INPUTS, Form, Input, Source
from evalsvc.metrics.precomputed import Precomputed
from evalsvc.metrics.score import UNPAIRED, Z95, Direction, MetricError, Score
from evalsvc.metrics.skewness import widths
from evalsvc.metrics.units import Units

F = TypeVar("F", bound=Callable[..., Any])
GROUPS = "groups"
"""The parameter for labels of the independent units that rows belong to."""
ITEMS = "items"
"""The parameter of an aggregate for the item that each row is a draw of."""
REFERENCE_METHOD = "influence of the reference's rows"
QUANTITY = "quantity"
"""The parameter of an aggregate for the quantity that it returns."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How a corpus's nats over its counts become a value: as they are, in ``bits``, or ``exponential``.

    Where a ``density`` is measured, nats may be negative.
    """

    bits: bool = False
    exponential: bool = False
    density: bool = False


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number a metric can return: its direction, unit and closed range.

    ``target`` is the right value of a quantity that can be too low and too high: a number, or that of as many samples
    of the ``"reference"``. Where a score has one, nearer is better; where not, ``direction`` ranks, which noise and
    loops can win. ``title`` and ``title_zh`` are its names for people, in English and Chinese; ``beside`` names the
    quantities that it is drawn against when two are weighed against each other. ``order`` is the option ``n`` of a
    metric that returns another quantity for each. A scorer's quantity that also exists of a whole corpus names the
    statistic (:data:`evalsvc.metrics.corpus.CORPUS`) as ``corpus``, and as ``sums`` those of the scorer's quantities
    whose sums over the samples it is found from.

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
    target: float | Literal["reference"] | None = None
    title: str = ""
    title_zh: str = ""
    beside: tuple[str, ...] = ()
    order: int | None = None
    ratio: Ratio | None = None
    corpus: str = ""
    sums: tuple[str, ...] = ()

    @property
    def constant(self) -> float | None:
        """The right value where it is a number."""
        return None if self.target == "reference" else self.target

    def titled(self, language: str) -> str:
        """The name for people in a language (``en``, ``zh``)."""
        title = {"en": self.title, "zh": self.title_zh}.get(language)
        return title or self.title or self.name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A registered metric. ``version`` rises whenever the same inputs may give another value.

    ``error_version`` rises whenever they may give another error, interval or right value beside the same value: scores
    stay comparable, and errors are found again from the shards.
    """

    name: str
    function: Callable[..., Any]
    quantities: tuple[Quantity, ...]
    version: int
    precomputed: tuple[Precomputed, ...] = ()
    own_inputs: tuple[Input, ...] = ()
    error_version: int = 1
    full_rank: bool = False
    """Whether it needs more samples than dimensions where slices are compared."""
    derive: Derivation | None = None
    """Of an aggregate over items: the quantities that it returns for one of a scorer's quantities and its options."""

    @property
    def plan(self) -> Callable[..., Any] | None:
        """Of a metric over all pairs of rows, what :func:`evalsvc.metrics.pairs.measure` takes."""
        return getattr(self.function, "plan", None)

    @property
    def inputs(self) -> Mapping[str, Input]:
        """The inputs the caller must supply, in order, by name."""
        return {p.name: self._input(p.name) for p in self._parameters if p.default is p.empty and p.name != QUANTITY}

    @property
    def options(self) -> Mapping[str, Any]:
        """Names of the optional parameters with their defaults."""
        return {p.name: p.default for p in self._parameters if p.default is not p.empty}

    @property
    def controls(self) -> Mapping[str, Input]:
        """Optional inputs: held-out samples, whose value is reported beside that of the generated ones."""
        return {name: INPUTS[name] for name in self.options if name in INPUTS}

    @property
    def counts_groups(self) -> bool:
        """Whether it takes one label per row, equal for rows that are not independent."""
        return GROUPS in self.options

    @property
    def takes_quantity(self) -> bool:
        """Whether it is an aggregate that takes the quantity that it returns."""
        return any(each.name == QUANTITY for each in self._parameters)

    @property
    def choices(self) -> Mapping[str, Any]:
        """Options that a suite can set, with their defaults; the others follow from the data."""
        supplied = {GROUPS, QUANTITY, ITEMS, *self.controls, *(each.argument for each in self.precomputed)}
        return {name: default for name, default in self.options.items() if name not in supplied}

    def reads(self, source: Source, *forms: Form) -> bool:
        """Whether it must have an input of this source, in one of these forms if any are named."""
        return any(each.source is source and (not forms or each.form in forms) for each in self.inputs.values())

    def unbiased_in_n(self, quantity: Quantity, options: Mapping[str, Any]) -> bool:
        """Whether the number of generated samples leaves the expectation of a quantity alone under these options."""
        declared = quantity.unbiased_in_n
        return declared({**self.options, **options}) if callable(declared) else declared

    def returned(self, options: Mapping[str, Any]) -> tuple[Quantity, ...]:
        """The quantities that it returns with these options."""
        order = {**self.options, **options}.get("n")
        return tuple(each for each in self.quantities if each.order in (None, order)) or self.quantities

    @property
    def _parameters(self) -> Collection[inspect.Parameter]:
        return inspect.signature(self.function).parameters.values()

    def _input(self, name: str) -> Input:
        own = {each.name: each for each in self.own_inputs}
        return own.get(name) or INPUTS.get(name) or Input(name, Form.NUMBERS)


Derivation = Callable[[Quantity, Mapping[str, Any]], tuple[Quantity, ...]]
METRICS: dict[str, MetricSpec] = {}
QUANTITIES: dict[str, Quantity] = {}


def metric(
    *quantities: Quantity,
    version: int,
    precomputed: tuple[Precomputed, ...] = (),
    inputs: tuple[Input, ...] = (),
    derive: Derivation | None = None,
    full_rank: bool = False,
    error_version: int = 1,
) -> Callable[[F], F]:
    """Register the decorated function under its own name, returning the given quantities.

    ``precomputed`` are arguments that depend on the reference alone, ``inputs`` those that no other metric has.
    ``full_rank`` metrics need more samples than dimensions in each slice. An aggregate of a scorer's values has no
    quantities of its own but ``derive``, and takes one as ``quantity``.
    """

    def register(function: F) -> F:
        for quantity in quantities:
            if QUANTITIES.setdefault(quantity.name, quantity) != quantity:
                raise ValueError(f"quantity {quantity.name!r} is declared twice with different facts")
        name = function.__name__
        function = where_inputs_are(function)
        METRICS[name] = MetricSpec(
            name, function, quantities, version, precomputed, inputs, error_version, full_rank, derive
        )
        return function

    return register


def score(
    name: str | Quantity,
    value: float,
    stderr: float | None,
    *,
    n: int,
    method: str,
    interval: tuple[float, float] | None = None,
    details: Mapping[str, float] | None = None,
    influence: Influence | str = UNPAIRED,
    units: Units | None = None,
    skewness: float = 0.0,
    reference: Influence | str = "",
) -> Score:
    """Build the :class:`Score` of a quantity, given itself or by its registered name.

    The interval is that of ``stderr`` and ``skewness`` (:func:`evalsvc.metrics.skewness.widths`) unless one is given,
    cut to the quantity's range, never past the value. ``reference`` is the influence of the reference's rows, or the
    reason why what their choice adds to the error is unknown; empty without a reference.
    ``method`` names how ``stderr`` was found, or, where it is ``None``, the reason; a score without an error has no
    influence either. ``units`` that are groups widen the interval by Student's t, and too few of them leave no error.
    """
    quantity = name if isinstance(name, Quantity) else QUANTITIES[name]
    if not math.isfinite(value):
        raise MetricError(f"{quantity.name}: the inputs give {value}, which is not a score")
    low = high = None
    redrawn = math.sqrt(reference.variance) if isinstance(reference, Influence) else None if reference else 0.0
    if units and units.clustered:
        method = units.too_few or units.described(method)
        stderr = None if units.too_few else stderr
        details = {**(details or {}), "groups": float(units.count)}
    if stderr is None:
        influence = method
    else:
        down, up = widths(stderr * (units.quantile if units else Z95) / Z95, skewness, Z95)
        low, high = interval or (value - down, value + up)
        # The value lies in its own interval, also where an interval's formula lost that to rounding.
        low, high = min(max(low, quantity.low), value), max(min(high, quantity.high), value)
    return Score(
        name=quantity.name,
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
        skewness=0.0 if stderr is None else float(skewness),
        stderr_reference=redrawn,
        reference_method=reference if isinstance(reference, str) else REFERENCE_METHOD,
        reference=reference,
        target=quantity.constant,
        target_stderr=None if quantity.constant is None else 0.0,
    )
