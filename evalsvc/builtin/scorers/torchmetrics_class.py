"""Classes of torchmetrics as scorers: each sample updates the class alone, and the states of all samples merge."""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evalsvc.builtin.pretrained import offline
from evalsvc.builtin.scorers import torchmetrics_states as states
from evalsvc.builtin.scorers.inner_extractor import InnerExtractor
from evalsvc.builtin.scorers.rows import Failed, score_rows
from evalsvc.builtin.scorers.torchmetrics_inputs import SOURCES, Source
from evalsvc.builtin.scorers.torchmetrics_models import with_model
from evalsvc.core.batching import out_of_memory
from evalsvc.core.errors import EvalsvcError, InputError, first_line
from evalsvc.metrics.full_precision import full_precision
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import MetricError
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import Plugins, versioned
from evalsvc.plugins.samples import Audio, Samples
from evalsvc.plugins.scorers import ScorerInfo
from evalsvc.plugins.torchmetrics_classes import MODEL, MODELS, ClassUse, class_use

if TYPE_CHECKING:
    from torch import Tensor

FEATURES = {"extractor", "output", "options"}
LIBRARIES = {"ShortTimeObjectiveIntelligibility": "pystoi"}
"""Packages besides torchmetrics that compute a class."""


@versioned("1")
class TorchmetricsClass:
    """The plug-in ``torchmetrics``: the class ``metric`` with ``options``, its ``update`` given the sources ``inputs``.

    The value of a sample is that of the class after this sample alone, NaN where that does not exist; the aggregate
    ``merged`` is the value of the class after all samples. ``outputs`` are keys of the dict that some classes return.
    The sources ``features`` and ``predicted_labels`` are rows of the ``extractor`` that ``features`` names, with its
    ``output`` and ``options``. A sample that the class refuses, or after which its state is not finite, has failed.
    """

    @staticmethod
    def quantities(features: Any = None, **options: Any) -> tuple[Quantity, ...]:
        """One quantity for each output, in the direction of the class."""
        return class_use(**options).quantities

    def __init__(
        self,
        device: torch.device,
        *,
        metric: str,
        inputs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        outputs: Sequence[str] | None = None,
        features: Mapping[str, Any] | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        use = class_use(metric, inputs, options, outputs, plugins)
        self._use = use
        self._sources = {name: _sources(use, given) for name, given in use.inputs.items()}
        self._module, weights = _built(use, device)
        self._device = device
        every = list[Source]()
        for one in self._sources.values():
            every += one.values() if isinstance(one, dict) else [one]
        takes = {each.takes for each in every if each.takes}
        self._inner = _inner(use, features, any(each.features for each in every), device, plugins)
        if self._inner:
            takes = takes & self._inner.extractor.info.takes if takes else set(self._inner.extractor.info.takes)
        if not takes or (len(takes) > 1 and not self._inner):
            given = " and ".join(sorted(takes)) or "no samples"
            raise InputError(f"the inputs of torchmetrics class {metric!r} are {given}: name one source of samples")
        self._outputs = {quantity.name: key for quantity, key in zip(use.quantities, use.outputs, strict=True)}
        self.info = ScorerInfo(
            "torchmetrics",
            frozenset(takes),
            use.quantities,
            frozenset(each.reads for each in every if each.reads),
            weights,
            _facts(use) | (self._inner.facts if self._inner else {}),
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The value and the state of each sample."""
        fs = self._use.options.get("fs")
        if isinstance(samples, Audio) and fs not in (None, samples.rate):
            raise InputError(f"the sounds have {samples.rate} Hz, but the class is told {fs}: set its option 'fs'")
        kept = [b""] * len(samples)
        features = torch.from_numpy(self._inner.rows(samples)) if self._inner else None

        def judge(row: int) -> Sequence[float]:
            state = self._state(samples, features, items, row)
            kept[row] = states.packed(state)
            return [self._alone(state, quantity) for quantity in self._outputs]

        return replace(score_rows(self.info, len(samples), judge), states=tuple(kept))

    def read_state(self, state: bytes) -> states.State:
        """The state of a sample."""
        return states.unpacked(state)

    def merge(self, several: Sequence[states.State]) -> states.State:
        """The state of several samples together."""
        return states.merged(self._module, several)

    def value_of(self, state: states.State, quantity: str) -> float:
        """The value that the class computes from a state.

        Raises:
            MetricError: the class computes none, as of images of several sizes that it keeps.
        """
        try:
            with _quiet(), torch.inference_mode(), full_precision():
                return states.value_of(self._module, state, self._outputs[quantity])
        except EvalsvcError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            raise MetricError(f"torchmetrics class {self._use.name!r} has no value: {first_line(error)}") from None

    def _state(self, samples: Samples, features: Tensor | None, items: ItemBatch, row: int) -> states.State:
        given = {name: self._given(source, samples, features, items, row) for name, source in self._sources.items()}
        self._module.reset()
        try:
            with _quiet():
                self._module.update(**given)
        except Exception as error:
            if out_of_memory(error):
                raise
            raise Failed(f"{type(error).__name__}: {first_line(error)}") from None
        state = states.state_of(self._module)
        if not states.is_finite(state):
            raise Failed(f"{self._use.name} of this sample is not finite")
        return state

    def _given(
        self,
        source: Source | dict[str, Source],
        samples: Samples,
        features: Tensor | None,
        items: ItemBatch,
        row: int,
    ) -> Any:
        if isinstance(source, dict):
            return {name: self._given(each, samples, features, items, row) for name, each in source.items()}
        found = source.give(features if source.features else samples, items, row)
        if not isinstance(found, torch.Tensor):
            return found
        if not bool(torch.isfinite(found).all()):
            raise Failed("the sample or its target has numbers that are not finite")
        return found.to(self._device)

    def _alone(self, state: states.State, quantity: str) -> float:
        """The value of one sample; NaN if the class needs several, or it is infinite."""
        try:
            value = self.value_of(state, quantity)
        except MetricError:
            return float("nan")
        return value if abs(value) < float("inf") else float("nan")


def _built(use: ClassUse, device: torch.device) -> tuple[Any, str]:
    """The class with its options, and the digest of its weights."""
    options, weights = with_model(use, device)
    try:
        with _quiet(), ExitStack() as stack:
            if weights != "none":
                stack.enter_context(offline())
            return use.kind(**options).to(device), weights
    except Exception as error:
        raise InputError(f"torchmetrics class {use.name!r} does not take these options: {first_line(error)}") from None


def _inner(
    use: ClassUse, features: Any, is_read: bool, device: torch.device, plugins: Plugins | None
) -> InnerExtractor | None:
    """The extractor of the features that an input reads."""
    if not is_read and features is None:
        return None
    told = f"torchmetrics class {use.name!r}"
    if not is_read:
        raise InputError(f"{told}: no input reads 'features': remove it, or give an input the source 'features'")
    if not isinstance(features, Mapping) or not {"extractor", "output"} <= features.keys() <= FEATURES:
        raise InputError(f"{told} reads features: name an output of an extractor, as in 'features: cnn/logits'")
    extractor, output, options = (features.get(key) for key in ("extractor", "output", "options"))
    return InnerExtractor.build("torchmetrics", str(extractor), str(output), options, device, plugins)


def _sources(use: ClassUse, given: Any) -> Source | dict[str, Source]:
    if isinstance(given, Mapping):
        return {name: _source(use, each) for name, each in given.items()}
    return _source(use, given)


def _source(use: ClassUse, name: str) -> Source:
    if name not in SOURCES:
        raise InputError(f"torchmetrics class {use.name!r}: there is no source {name!r}: use {', '.join(SOURCES)}")
    return SOURCES[name]


def _facts(use: ClassUse) -> dict[str, str]:
    """Everything that can change a value."""
    options = {name: each for name, each in use.options.items() if name != MODEL}
    told = {"inputs": use.inputs, "options": options, "outputs": use.outputs}
    facts = {"class": use.name, "version": use.distribution} | {
        name: json.dumps(each, sort_keys=True) for name, each in told.items()
    }
    if package := "transformers" if use.kind.__name__ in MODELS else LIBRARIES.get(use.kind.__name__):
        facts[package] = importlib.metadata.version(package)
    return facts


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of torchmetrics, which repeat for each sample."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
