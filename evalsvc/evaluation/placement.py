"""Where the metrics of a reduction are computed: on a device, to which each matrix that fits is uploaded once."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from evalsvc.core.batching import free_memory, out_of_memory
from evalsvc.core.errors import first_line
from evalsvc.metrics.devices import staged, working_on
from evalsvc.metrics.inputs import INPUTS, Form, Source
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import MetricSpec

if TYPE_CHECKING:
    from torch import Tensor

SHARE = 0.5
"""Share of a device's free memory for matrices; their metrics need blocks of distances and float64 copies beside."""
PIECE = 2**25
"""Bytes that are uploaded at once, from pinned memory."""
MATRICES = frozenset(
    each.name
    for each in INPUTS.values()
    if each.form is Form.MATRIX and each.source in (Source.SAMPLES, Source.REFERENCE, Source.PROMPTS)
)

Arguments = Mapping[str, Any]
Place = Callable[[Arguments], Arguments]
"""Returns the arguments of a metric with its matrices where they are computed."""
T = TypeVar("T")
log = logging.getLogger(__name__)


class Placement:
    """Computes the metrics of one reduction on a CUDA device; on other devices from the arrays as they are.

    A matrix stays on the device as long as its array on the host exists. Matrices of a metric that do not fit all stay
    on the host, and are computed on the device in blocks. After an out-of-memory error all are released, and computed
    in blocks from then on; work that does not fit in blocks either is done on the host.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_active = device.type == "cuda"
        self._keeps = True
        self._told: set[str] = set()
        self._uploaded: dict[int, Tensor] = {}
        """By the identity of the array on the host."""

    def measure(self, metric: MetricSpec, arguments: Arguments) -> Any:
        """The result of a metric."""
        return self.compute(metric, arguments, lambda given: metric.function(**given))

    def compute(self, metric: MetricSpec, arguments: Arguments, work: Callable[[Arguments], T]) -> T:
        """The result of a metric's work on arguments; a plug-in's, which may know NumPy only, gets them as they are."""
        if not metric.function.__module__.startswith("evalsvc.metrics."):
            return work(arguments)
        return self.run(lambda place: work(place(arguments)))

    def run(self, work: Callable[[Place], T]) -> T:
        """The result of ``work``, which is tried again in less memory where that runs out."""
        if not self.is_active:
            return work(dict)
        places: tuple[Place, ...] = (self._placed, dict) if self._keeps else (dict,)
        for place in places:
            try:
                with working_on(self.device):
                    return work(place)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                reason = first_line(error)
            # Outside of the handler: the frames of the error keep the allocated memory alive.
            self._keeps = False
            self.release()
            where = f"on {self.device} in blocks" if place == self._placed else "on the host"
            if where not in self._told:
                log.warning("memory of %s is full (%s): metrics are computed %s", self.device, reason, where)
            self._told.add(where)
        return work(dict)

    def release(self) -> None:
        """Free the memory of the device; matrices are uploaded again when they are asked for."""
        self._uploaded.clear()
        if self.is_active:
            torch.cuda.empty_cache()

    def _placed(self, arguments: Arguments) -> Arguments:
        found = {name: each for name, each in arguments.items() if name in MATRICES and isinstance(each, np.ndarray)}
        missing = {id(each): each for each in found.values() if id(each) not in self._uploaded}
        if missing and not self._fits(sum(each.nbytes for each in missing.values())):
            return arguments
        for key, array in missing.items():
            copy = self._copy(array)
            weakref.finalize(array, self._uploaded.pop, key, None)
            self._uploaded[key] = copy
        return {**arguments, **{name: self._uploaded[id(each)] for name, each in found.items()}}

    def _fits(self, size: int) -> bool:
        held = sum(each.nbytes for each in self._uploaded.values())
        return held + size <= SHARE * (held + free_memory(self.device))

    def _copy(self, array: np.ndarray) -> Tensor:
        whole = torch.empty(array.shape, dtype=getattr(torch, array.dtype.name), device=self.device)
        rows = max(1, PIECE * len(array) // max(1, array.nbytes))
        for start in range(0, len(array), rows):
            whole[start : start + rows] = staged(torch.from_numpy(np.array(array[start : start + rows])), self.device)
        return whole
