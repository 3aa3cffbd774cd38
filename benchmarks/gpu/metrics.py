"""Every registered metric on the device against the CPU: values, errors and influences."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.agreement import SUMS, Numbers, distance, numbers, same_bits, tolerance
from benchmarks.gpu.lines import DiffersError, Lines
from evalsvc.metrics import functional
from evalsvc.metrics.devices import working_on
from evalsvc.metrics.errors import MetricError
from evalsvc.metrics.inputs import Form, Source
from evalsvc.metrics.metric_classes import CLASSES
from evalsvc.metrics.moments import Moments
from evalsvc.metrics.registry import METRICS, MetricSpec

Arrays = dict[str, torch.Tensor]
REPETITIONS = 3
GROUPS = 4
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "kernel_distance": [
        {"subset_size": 40},
        {"subsets": None},
        {"subsets": None, "kernel": "rbf", "biased": True},
    ],
    "vendi_score": [{}, {"q": 2.0}, {"q": float("inf")}],
    "mind": [{"directions": 64}],
    "mauve": [{"seeds": 1}],
    "mauve_star": [{"seeds": 1}],
}
"""Options that each metric is called with; once without any where it is not here."""
ODD = ("double precision", "few rows", "ties", "equal sets")
"""Data beside the usual ones."""
TIED = ODD[2:]
"""Those of them in which distances are equal."""
NOT_HELD = {("ct_score", "ties"): "rounding decides which of two equally near cells a row belongs to"}
"""Data on which a metric differs between two processors as well, with the reason."""
FUNCTIONS: dict[str, Callable[[Arrays], Any]] = {
    "nearest_neighbors": lambda a: functional.nearest_neighbors(a["generated"], a["reference"], k=3),
    "neighbor_radii": lambda a: functional.neighbor_radii(a["reference"]),
    "realism": lambda a: functional.realism(a["generated"], a["reference"]),
    "training_spacing": lambda a: functional.training_spacing(a["train"], a["heldout"]),
    "Moments.of": lambda a: vars(Moments.of(a["generated"])),
}
"""Functions over rows that are no metrics."""


@dataclass(frozen=True)
class Case:
    """A metric with its options, and the data that it is called with."""

    spec: MetricSpec
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the metric, with its options."""
        said = ", ".join(f"{key}={value}" for key, value in self.options.items() if key not in ("seeds", "directions"))
        return f"{self.spec.name}({said})" if said else self.spec.name

    def inputs(self, arrays: Arrays) -> Arrays:
        """The arrays that it reads."""
        return {name: arrays[name] for name in self.spec.inputs}

    @property
    def takes_moments(self) -> bool:
        """Whether the reference may be published statistics."""
        return "Moments" in str(inspect.signature(self.spec.function).parameters.get("reference", ""))

    def call(self, arrays: Mapping[str, Any]) -> Any:
        """Its result."""
        of_groups = self.spec.name == "grouped_frechet_distance"
        groups = {"groups": np.arange(len(arrays["generated"])) % GROUPS} if of_groups else {}
        return self.spec.function(**arrays, **self.options, **groups)


@dataclass(frozen=True)
class Way:
    """A way in which the inputs of a metric may lie; the CPU's are the same ones unless ``on_host`` has others."""

    name: str
    inputs: Mapping[str, Any]
    on_host: Mapping[str, Any] | None = None
    streams: bool = False


def reads_arrays(spec: MetricSpec) -> bool:
    """Whether it takes arrays that may be on a device: not texts, and not a scorer's columns, which are NumPy's."""
    return all(
        each.form in (Form.MATRIX, Form.NUMBERS) and each.source is not Source.SCORER for each in spec.inputs.values()
    )


def cases() -> list[Case]:
    """All metrics that take arrays, with the options of :data:`OPTIONS`."""
    chosen = [spec for spec in METRICS.values() if reads_arrays(spec)]
    return [Case(spec, options) for spec in chosen for options in OPTIONS.get(spec.name, [{}])]


def data(kind: str = "usual", n: int = 900, d: int = 32) -> Arrays:
    """Inputs of all metrics by name; ``kind`` is ``usual`` or one of :data:`ODD`."""
    random = torch.Generator().manual_seed(2020)
    n, d = (n // 4, d * 8) if kind == "few rows" else (n, d)

    def rows(count: int, scale: float, shift: float) -> torch.Tensor:
        x = torch.randn(count, d, generator=random, dtype=torch.float64) * scale + shift
        x = (2 * x).round() if kind == "ties" else x
        return x if kind == "double precision" else x.float()

    own, real = rows(n, 1.0, 0.0), rows(n - n // 10, 1.1, 0.1)
    nats = torch.rand(n, generator=random, dtype=torch.float64) * 100
    return {
        "generated": own,
        "reference": own.clone() if kind == "equal sets" else real,
        "train": rows(n - n // 5, 1.0, 0.05),
        "heldout": rows(n - n // 4, 1.0, 0.05),
        "x": own,
        "prompts": own + rows(n, 0.5, 0.3),
        "logits": 3 * own[:, :10],
        "nll": nats,
        "nll_a": nats,
        "nll_b": nats * 1.01 + 0.1,
        "items": torch.arange(n) // 4,
        **{name: torch.full((n,), 20 + place) for place, name in enumerate(("tokens", "words", "bytes", "dims"))},
        "units": torch.full((n,), 24),
    }


def size(case: Case, arrays: Arrays) -> float:
    """The scale of the terms that a metric is a difference of; 0 where it is none."""
    own = arrays["generated"].double()
    if "frechet" in case.spec.name:
        return float(own.square().sum(1).mean())
    if case.spec.name == "kernel_distance":
        rbf = case.options.get("kernel") == "rbf"
        return 1.0 if rbf else float((own.square().sum(1) / own.shape[1] + 1).pow(3).mean())
    return 0.0


def check(lines: Lines, device: torch.device, n: int, d: int, odd: Sequence[str] = ODD) -> None:
    """Write the lines of this part."""
    for kind in ("usual", *odd):
        arrays = data(kind, n=n, d=d)
        for case in cases():
            if reason := NOT_HELD.get((case.spec.name, kind)):
                lines.write("metrics", f"{case.name}, {kind}", "skipped", reason)
                continue
            for way in ways(case, arrays, device) if kind == "usual" else [Way(kind, _on(device, case.inputs(arrays)))]:
                work = functools.partial(_agrees, case, way, arrays, device)
                lines.check("metrics", f"{case.name}, {way.name}", work)
    arrays = data(n=n, d=d)
    for name, function in FUNCTIONS.items():
        lines.check("metrics", name, functools.partial(_function, function, arrays, device))
    for name in CLASSES:
        if reads_arrays(CLASSES[name].spec):
            lines.check("metrics", f"class {name}", functools.partial(_class, name, arrays, device))


def ways(case: Case, arrays: Arrays, device: torch.device) -> Iterator[Way]:
    """The ways in which the inputs of a metric may lie."""
    inputs = case.inputs(arrays)
    placed = _on(device, inputs)
    yield Way("on the device", placed)
    yield Way("in blocks from the host", inputs, streams=True)
    if len(inputs) > 1:
        for name in inputs:
            yield Way(f"{name} on the host", {**placed, name: inputs[name].numpy()})
    if case.takes_moments:
        published = Moments.of(inputs["reference"])
        yield Way("published statistics", {**placed, "reference": published}, {**inputs, "reference": published})
    options = {**case.spec.options, **case.options}
    for each in case.spec.precomputed:
        known = {**dict.fromkeys(each.of), **inputs}
        if each.is_worthwhile(known):
            stored = {each.argument: each.restore(each.find(known, options), known, options)}
            yield Way(f"stored {each.argument}", {**placed, **stored}, {**inputs, **stored})


def _agrees(case: Case, way: Way, arrays: Arrays, device: torch.device) -> str:
    expected = _result(case, way.on_host or case.inputs(arrays))
    with working_on(device) if way.streams else nullcontext():
        found = [_result(case, way.inputs) for _ in range(REPETITIONS)]
    allowed = tolerance(case.spec.name)
    allowed = allowed.where_tied() if way.name in TIED else allowed
    said = distance(expected, found[0], allowed, size(case, arrays))
    if not all(same_bits(found[0], other) for other in found[1:]):
        raise DiffersError(f"{REPETITIONS} calls on the device do not give the same bits")
    return said or "refused alike"


def _result(case: Case, inputs: Mapping[str, Any]) -> Numbers:
    try:
        return numbers(case.call(inputs))
    except MetricError:
        return {}


def _on(device: torch.device, arrays: Arrays) -> Arrays:
    return {name: array.to(device) for name, array in arrays.items()}


def _function(function: Callable[[Arrays], Any], arrays: Arrays, device: torch.device) -> str:
    return distance(numbers(function(arrays)), numbers(function(_on(device, arrays))), SUMS)


def _class(name: str, arrays: Arrays, device: torch.device) -> str:
    """A class on the device, whose updates come from the device and from the host in turns."""
    spec = CLASSES[name].spec
    options = OPTIONS.get(spec.name, [{}])[0]

    def computed(where: torch.device) -> Any:
        metric = CLASSES[name](**options).to(where)
        for place, parts in enumerate(zip(*(arrays[each].chunk(3) for each in spec.inputs), strict=True)):
            moved = [part.to(where if place != 1 else "cpu") for part in parts]
            metric.update(**dict(zip(spec.inputs, moved, strict=True)))
        return numbers(metric.compute())

    allowed, scale = tolerance(spec.name), size(Case(spec, options), arrays)
    return distance(computed(torch.device("cpu")), computed(device), allowed, scale)
