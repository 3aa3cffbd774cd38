"""Metrics from plug-ins: functions declared with ``@metric``, and classes of ``torchmetrics.Metric`` over arrays.

The ``update`` of a class takes rows of features: of the generated samples alone, with a flag ``real`` as FID does, or
of both sets, as many of each, which are not pairs. An attribute ``quantity`` of the class (a
:class:`evalsvc.metrics.registry.Quantity`) describes its result; without it, the result has a direction, but no unit
and no title.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

import evalsvc.metrics.functional  # noqa: F401  (declares the metrics)
from evalsvc.core.cost import SPEED
from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError, first_line
from evalsvc.metrics.inputs import INPUTS
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import METRICS, QUANTITIES, Quantity, metric, score
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.plugins.registry import Plugin, PluginKind

BATCH = 1024
OF_ARRAYS = frozenset({"aggregation", "regression"})
"""Packages of torchmetrics whose classes read arrays of numbers."""


def quantities(plugins: Iterable[Plugin]) -> Mapping[str, Quantity]:
    """All quantities by name, including those of plug-ins; plug-ins that fail to load are left out."""
    for plugin in plugins:
        if plugin.kind is PluginKind.METRIC and plugin.name not in METRICS:
            with suppress(InputError):
                register_metric(plugin)
    return {**QUANTITIES, SPEED.name: SPEED}


def register_metric(plugin: Plugin) -> None:
    """Register the metric of a plug-in under the plug-in's name."""
    loaded = plugin.load()
    if inspect.isclass(loaded) and hasattr(loaded, "higher_is_better") and hasattr(loaded, "compute"):
        if reads_samples(loaded):
            raise InputError(
                f"plug-in {plugin.name!r} of {plugin.distribution} is torchmetrics class {loaded.__name__}, which "
                f"reads samples instead of arrays of features: name it in a suite, as in 'metric: {plugin.name}'"
            )
        _register_class(plugin, loaded)
    elif plugin.name not in METRICS:
        raise InputError(
            f"plug-in {plugin.name!r} of {plugin.distribution} is neither a torchmetrics.Metric class nor a function "
            f"named {plugin.name} and declared with @evalsvc.metrics.registry.metric"
        )


def reads_samples(kind: Any) -> bool:
    """Whether a class is one of torchmetrics itself whose inputs are texts, images, sounds or labels."""
    package, _, domain = str(getattr(kind, "__module__", "")).partition(".")
    return package == "torchmetrics" and inspect.isclass(kind) and domain.partition(".")[0] not in OF_ARRAYS


def _register_class(plugin: Plugin, kind: Any) -> None:
    parameters = [p.name for p in list(inspect.signature(kind.update).parameters.values())[1:] if p.default is p.empty]
    fold = _by_flag if "real" in parameters else _in_pairs if len(parameters) > 1 else _alone

    def measure(generated: Any, reference: Any, **options: Any) -> Score:
        try:
            module = kind(**options)
        except Exception as error:
            raise MetricError(f"metric {plugin.name!r} does not take these options: {first_line(error)}") from None
        fold(module, generated, reference)
        value = module.compute()
        value = value[0] if isinstance(value, tuple) else value
        reason = f"none: torchmetrics.{kind.__name__} gives no error"
        return score(plugin.name, float(value), None, n=len(generated), method=reason)

    def measure_alone(x: Any, **options: Any) -> Score:
        return measure(x, None, **options)

    function: Callable[..., Score] = measure_alone if fold is _alone else measure
    function.__name__ = plugin.name
    function.__signature__ = _with_options(function, kind)  # type: ignore[attr-defined]
    # The registry stores versions as integers.
    version = int(digest_json([plugin.distribution, plugin.own_version or plugin.version])[:7], 16)
    try:
        metric(_quantity(plugin, kind), version=version)(function)
    except ValueError as error:
        raise InputError(f"plug-in {plugin.name!r} of {plugin.distribution}: {error}: rename the plug-in") from None


def _with_options(function: Callable[..., Score], kind: Any) -> inspect.Signature:
    """The inputs of a function, and the options of a constructor that have defaults and no name of an input."""
    inputs = [each for each in inspect.signature(function).parameters.values() if each.kind is not each.VAR_KEYWORD]
    options = [
        each.replace(kind=each.KEYWORD_ONLY, annotation=each.empty)
        for each in inspect.signature(kind.__init__).parameters.values()
        if each.default is not each.empty and each.name not in INPUTS
    ]
    return inspect.Signature([*inputs, *options])


def _quantity(plugin: Plugin, kind: Any) -> Quantity:
    direction = {True: Direction.HIGHER, False: Direction.LOWER, None: Direction.NEUTRAL}[kind.higher_is_better]
    quantity = getattr(kind, "quantity", Quantity(plugin.name, direction, unit=""))
    if not isinstance(quantity, Quantity) or quantity.name != plugin.name:
        raise InputError(
            f"attribute 'quantity' of plug-in {plugin.name!r} of {plugin.distribution} is {quantity!r}: "
            f"set it to a Quantity named {plugin.name!r}, or remove it"
        )
    return quantity


def _by_flag(module: Any, generated: np.ndarray, reference: np.ndarray) -> None:
    """Call ``update(features, real=...)``, as FID and KID expect."""
    for array, real in ((reference, True), (generated, False)):
        for batch in _batches(array):
            module.update(batch, real=real)


def _in_pairs(module: Any, generated: np.ndarray, reference: np.ndarray) -> None:
    """Call ``update(preds, target)`` on as many rows as both sets have."""
    n = min(len(generated), len(reference))
    for pair in zip(_batches(generated[:n]), _batches(reference[:n]), strict=True):
        module.update(*pair)


def _alone(module: Any, generated: np.ndarray, _reference: None) -> None:
    """``update(x)``."""
    for batch in _batches(generated):
        module.update(batch)


def _batches(array: np.ndarray) -> Iterator[torch.Tensor]:
    """Consecutive rows, copied from the memory-mapped file."""
    for start in range(0, len(array), BATCH):
        yield torch.from_numpy(np.array(array[start : start + BATCH]))
