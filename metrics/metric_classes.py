"""Every metric as a ``torchmetrics.Metric``: the function waits until ``compute``, the class only collects.

The class of the metric ``foo_bar`` is ``FooBar``. Its options go to the constructor, its inputs to ``update`` by name,
all at once or each when it comes: ``metric.update(generated=batch)``. ``compute`` returns what the function returns.
Samples keep the order of their updates, in any order of merging shards.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from evalsvc.metrics import functional
from evalsvc.metrics.arrays import as_matrix, as_vector, same_width
from evalsvc.metrics.inputs import Form
from evalsvc.metrics.moments import Moments
from evalsvc.metrics.registry import METRICS, MetricSpec
from evalsvc.metrics.score import Direction, MetricError


class _Box:
    """Hides a result from torchmetrics, which walks through what ``compute`` returns and writes into dataclasses."""

    def __init__(self, content: Any) -> None:
        self.content = content


class _Shell(Metric):
    """Base of all classes here: inputs by name, a :class:`Score` as the result, and mergeable states."""

    full_state_update = False
    is_differentiable = False
    spec: ClassVar[MetricSpec]

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Take in the samples of another metric of this class, or of its state."""
        super().merge_state(incoming_state)
        self._update_count = max(1, self._update_count)
        self._computed = None

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Any:
        # States hold float64, which MPS does not have: there they stay on the host.
        return self if fn(torch.zeros(1)).device.type == "mps" else super()._apply(fn, exclude_state)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.to(self.device)
        self._update_count = max(1, self._update_count)
        self._computed = None

    def _wrap_compute(self, compute: Callable[[], Any]) -> Callable[[], Any]:
        boxed = super()._wrap_compute(lambda: _Box(compute()))
        return lambda: boxed().content

    def _given(self, args: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        bound = inspect.signature(type(self).update).bind(self, *args, **named)
        given = {name: value for name, value in list(bound.arguments.items())[1:] if value is not None}
        if not given:
            raise MetricError(f"{type(self).__name__}.update was given nothing; it takes {', '.join(self.spec.inputs)}")
        return given

    def _missing(self, name: str) -> MetricError:
        return MetricError(f"{type(self).__name__} has seen no {name} yet; call update({name}=...)")


class Collected(_Shell):
    """Keeps the rows of all inputs and calls the function on them. O(n) memory, as the definition demands."""

    def __init__(self, **options: Any) -> None:
        """Take the options of the function; all others go to :class:`torchmetrics.Metric`."""
        own = {name: options.pop(name) for name in list(options) if name in self.spec.options}
        super().__init__(**options)
        self.options = own
        for name in self.spec.inputs:
            for part in self._parts(name):
                self.add_state(part, default=[], dist_reduce_fx="cat", persistent=True)

    def _form(self, name: str) -> Form:
        return self.spec.inputs[name].form

    def _parts(self, name: str) -> tuple[str, ...]:
        return (name, *([f"{name}_lengths"] if self._form(name) is Form.TEXTS else ()), f"{name}_time")

    def update(self, *args: Any, **inputs: Any) -> None:
        """Take in rows of any of the inputs."""
        now = _tick()
        given = self._given(args, inputs)
        rows = max(0 if np.isscalar(value) else len(value) for value in given.values())
        for name, value in given.items():
            if self._form(name) is Form.TEXTS:
                encoded = [text.encode("utf-8", "surrogatepass") for text in value]
                lengths = torch.tensor([len(text) for text in encoded], device=self.device)
                getattr(self, f"{name}_lengths").append(lengths)
                value = torch.frombuffer(bytearray(b"".join(encoded) or b"\0"), dtype=torch.uint8)[: int(lengths.sum())]
                count = len(lengths)
            else:
                value = (
                    as_matrix(value, name)
                    if self._form(name) is Form.MATRIX
                    else as_vector(np.full(rows, value) if np.isscalar(value) else value, name)
                )
                count = len(value)
            getattr(self, name).append(value.to(self.device, copy=True))
            getattr(self, f"{name}_time").append(torch.full((count,), now, device=self.device))

    def compute(self) -> Any:
        """The result of the function for all rows so far."""
        return self.spec.function(**{name: self._rows(name) for name in self.spec.inputs}, **self.options)

    def _reduce_states(self, incoming_state: dict[str, Any]) -> None:
        here = {
            name: [each.to(self.device) for each in ([state] if isinstance(state, Tensor) else state)]
            for name, state in incoming_state.items()
        }
        super()._reduce_states(here)

    def _rows(self, name: str) -> Any:
        times = _cat(getattr(self, f"{name}_time"))
        if not len(times):
            raise self._missing(name)
        order = times.argsort(stable=True)
        values = _cat(getattr(self, name))
        if self._form(name) is Form.TEXTS:
            data, ends = values.cpu().numpy().tobytes(), _cat(getattr(self, f"{name}_lengths")).cumsum(0).tolist()
            texts = [data[a:b].decode("utf-8", "surrogatepass") for a, b in itertools.pairwise([0, *ends])]
            return [texts[i] for i in order.tolist()]
        return values if bool((times[1:] >= times[:-1]).all()) else values[order]


class FrechetDistance(_Shell):
    """Frechet distance from moments: O(d^2) memory for any number of samples, and no standard error."""

    higher_is_better = False
    spec = METRICS["frechet_distance"]

    def __init__(self, **kwargs: Any) -> None:
        """Arguments go to :class:`torchmetrics.Metric`."""
        super().__init__(**kwargs)
        for name in self.spec.inputs:
            self.add_state(f"{name}_n", torch.tensor(0), dist_reduce_fx=None, persistent=True)
            self.add_state(f"{name}_mean", torch.zeros(0).double(), dist_reduce_fx=None, persistent=True)
            self.add_state(f"{name}_scatter", torch.zeros(0, 0).double(), dist_reduce_fx=None, persistent=True)
            # A product of few rows costs as much memory traffic as one of many: they wait for each other here.
            self.add_state(f"{name}_waiting", default=[], dist_reduce_fx=None, persistent=True)

    def update(self, generated: Any = None, reference: Any = None) -> None:
        """Take in rows (n, d) of either set, or :class:`Moments` of them."""
        for name, given in self._given((generated, reference), {}).items():
            if isinstance(given, Moments):
                self._keep(name, [*_moments(self.metric_state, name), given])
                continue
            rows = as_matrix(given, name)
            waiting = getattr(self, f"{name}_waiting")
            if waiting:
                same_width(rows, waiting[0], (f"this {name}", f"the {name} before"))
            waiting.append(rows.to(self.device, copy=True))
            if sum(map(len, waiting)) >= 2 * waiting[0].shape[1]:
                self._keep(name, _moments(self.metric_state, name))

    def compute(self) -> Any:
        """The distance, as :func:`evalsvc.metrics.functional.frechet_distance` gives it for moments."""
        sides = []
        for name in self.spec.inputs:
            seen = _moments(self.metric_state, name)
            if not seen:
                raise self._missing(name)
            sides.append(_merged(seen))
        return functional.frechet_distance(sides[0], sides[1])

    def _reduce_states(self, incoming_state: dict[str, Any]) -> None:
        for name in self.spec.inputs:
            self._keep(name, _moments(self.metric_state, name) + _moments(incoming_state, name))

    def _copy_state_dict(self) -> dict[str, Any]:
        # Called before processes are synchronized: no row may wait, as lists of unequal length are not gathered.
        for name in self.spec.inputs:
            self._keep(name, _moments(self.metric_state, name))
        return super()._copy_state_dict()

    def _keep(self, name: str, seen: list[Moments]) -> None:
        if not seen:
            return
        moments = _merged(seen)
        setattr(self, f"{name}_n", torch.tensor(moments.n, device=self.device))
        setattr(self, f"{name}_mean", moments.mean.to(self.device))
        setattr(self, f"{name}_scatter", moments.scatter.to(self.device))
        setattr(self, f"{name}_waiting", [])


def _moments(state: dict[str, Any], name: str) -> list[Moments]:
    """Moments in a state: those kept, or one of each process after a synchronization, and of the rows that wait."""
    n, mean, scatter = (state[f"{name}_{part}"] for part in ("n", "mean", "scatter"))
    if n.ndim == 0:
        n, mean, scatter = n[None], mean[None], scatter[None]
    kept = [Moments.of_sums(int(k), m, s) for k, m, s in zip(n, mean, scatter, strict=True) if k > 0]
    waiting = _cat(state[f"{name}_waiting"])
    return [*kept, Moments.of(waiting)] if len(waiting) else kept


def _merged(moments: list[Moments]) -> Moments:
    return functools.reduce(Moments.merge_state, moments[1:], copy.copy(moments[0]))


_last_tick = 0


def _tick() -> int:
    """The time, never twice the same in one process."""
    global _last_tick
    _last_tick = max(_last_tick + 1, time.time_ns())
    return _last_tick


def _cat(pieces: list[Tensor] | Tensor) -> Tensor:
    if isinstance(pieces, torch.Tensor):
        return pieces
    return torch.cat(pieces) if pieces else torch.zeros(0)


def _class_name(metric: str) -> str:
    return "".join(word.capitalize() for word in metric.split("_"))


def _class_of(spec: MetricSpec) -> type[Collected]:
    def update(self: Collected, *args: Any, **inputs: Any) -> None:
        Collected.update(self, *args, **inputs)

    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("self", keyword)]
    parameters += [inspect.Parameter(name, keyword, default=None) for name in spec.inputs]
    update.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    update.__doc__ = f"Take in rows of {', '.join(spec.inputs)}."
    directions = {quantity.direction for quantity in spec.quantities}
    better = {Direction.HIGHER: True, Direction.LOWER: False}
    attributes = {
        "spec": spec,
        "update": update,
        "higher_is_better": better.get(*directions) if len(directions) == 1 else None,
        "__doc__": f":func:`evalsvc.metrics.functional.{spec.name}` of rows that come in parts.",
        "__module__": __name__,
    }
    return type(_class_name(spec.name), (Collected,), attributes)


_OF_GROUPS = {"grouped_frechet_distance"}
"""Metrics of groups, which rows that come in parts do not name."""
CLASSES: dict[str, type[_Shell]] = {
    _class_name(name): _class_of(spec)
    for name, spec in METRICS.items()
    if spec.function is getattr(functional, name, None) and spec.derive is None and name not in _OF_GROUPS
} | {"FrechetDistance": FrechetDistance}
globals().update(CLASSES)
