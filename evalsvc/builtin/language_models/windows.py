"""Windows of documents that a language model sees at once, and the losses of the tokens that are scored in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Tokens ``start`` to ``stop`` of a document are seen, those after ``first`` are scored."""

    document: int
    start: int
    first: int
    stop: int

    @property
    def length(self) -> int:
        """Number of tokens that are seen, without the last one, which is only scored."""
        return self.stop - self.start


def windows_of(document: int, last: int, window: int, context: int) -> Iterator[Window]:
    """Windows that score each of the tokens 1 to ``last`` of a document once; token 0 is not scored."""
    stop = min(window, last)
    if last > 0:
        yield Window(document, 0, 0, stop)
    while stop < last:
        first, stop = stop, min(stop + window - context + 1, last)
        yield Window(document, stop - window, first, stop)


@dataclass
class WindowLosses:
    """Cross-entropies of the scored tokens of windows, on the device, in the order of ``windows``."""

    windows: list[Window] = field(default_factory=list)
    parts: list[Float[Tensor, " scored"]] = field(default_factory=list)

    def add(self, windows: Sequence[Window], losses: Float[Tensor, " scored"]) -> None:
        """Add a batch, without waiting for it."""
        self.windows += windows
        self.parts.append(losses)

    def nats(self, documents: int) -> Float64[np.ndarray, " documents"]:
        """Sums of each document, in float64; this waits for the device."""
        nats = np.zeros(documents)
        if self.parts:
            counts = torch.tensor([window.stop - window.first for window in self.windows])
            owners = torch.arange(len(counts)).repeat_interleave(counts)
            sums = torch.zeros(len(counts), dtype=torch.float64)
            sums.index_add_(0, owners, torch.cat(self.parts).cpu().double())
            np.add.at(nats, [window.document for window in self.windows], sums.numpy())
        return nats
