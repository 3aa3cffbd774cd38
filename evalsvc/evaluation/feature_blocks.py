"""Features of a shard, collected batch by batch; those on a device come to the host together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins import validation
from evalsvc.plugins.interfaces import Extractor

if TYPE_CHECKING:
    from torch import Tensor

HELD = 2**28
"""Bytes of features that may wait on a device."""


class FeatureBlocks:
    """Consecutive rows of the outputs of extractors, by ``label/output``.

    Rows on a device stay there until many wait or the end: each copy to the host waits for all work on the device.
    """

    def __init__(self) -> None:
        self._extractors: dict[str, Extractor] = {}
        self._waiting: dict[str, list[Tensor]] = {}
        self._blocks: dict[str, list[np.ndarray]] = {}

    def add(self, label: str, extractor: Extractor, outputs: dict[str, Float32[Tensor, "n d"]]) -> None:
        """Add the next rows of an extractor.

        Raises:
            ModelError: they have other widths than those before, or contain NaN.
        """
        for output, rows in outputs.items():
            name = f"{label}/{output}"
            self._extractors[name] = extractor
            waiting = self._waiting.setdefault(name, [])
            waiting.append(rows)
            validation.same_width(name, waiting[0].shape[1], rows)
            if rows.device.type == "cpu" or sum(each.nbytes for each in waiting) > HELD:
                self._fetch(name)

    def arrays(self) -> dict[str, Float32[np.ndarray, "n d"]]:
        """All rows by name.

        Raises:
            ModelError: they contain NaN.
        """
        for name in self._waiting:
            self._fetch(name)
        return {name: validation.join(name, blocks) for name, blocks in self._blocks.items()}

    def _fetch(self, name: str) -> None:
        waiting, output = self._waiting[name], name.partition("/")[2]
        if waiting:
            rows = torch.cat(waiting) if len(waiting) > 1 else waiting[0]
            self._blocks.setdefault(name, []).append(validation.on_host(self._extractors[name], output, rows))
            waiting.clear()
