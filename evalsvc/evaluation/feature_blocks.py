"""Features of a shard, collected batch by batch; those on a device come to the host together."""

from __future__ import annotations

from collections.abc import Sequence
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
        if waiting := self._waiting[name]:
            rows = _on_host(waiting)
            waiting.clear()
            output = name.partition("/")[2]
            self._blocks.setdefault(name, []).append(validation.on_host(self._extractors[name], output, rows))


def _on_host(blocks: Sequence[Float32[Tensor, "_ d"]]) -> Float32[Tensor, "n d"]:
    """The blocks below each other on the host, for which a device needs no memory, and is waited for once."""
    device, counts = blocks[0].device, [len(block) for block in blocks]
    if device.type == "cpu":
        return torch.cat(list(blocks)) if len(blocks) > 1 else blocks[0]
    is_cuda = device.type == "cuda"
    rows = torch.empty(sum(counts), blocks[0].shape[1], pin_memory=is_cuda)
    for place, block in zip(torch.split(rows, counts), blocks, strict=True):
        place.copy_(block, non_blocking=is_cuda)
    if is_cuda:
        torch.cuda.synchronize(device)
    return rows
