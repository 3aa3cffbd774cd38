"""Batched inference with automatic batch sizes, shared by all network extractors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from evalsvc.core.batching import Batches, out_of_memory
from evalsvc.core.errors import InputError, ModelError
from evalsvc.metrics.devices import staged, staged_together
from evalsvc.metrics.full_precision import full_precision
from evalsvc.plugins.samples import Images, MixedImages, Samples

Forward = Callable[[Tensor], tuple[Tensor, ...]]
Prepare = Callable[[UInt8[Tensor, "n 3 h w"]], Float[Tensor, "n 3 s s"]]


class Batch(Protocol):
    """A tensor, or an object that can be sliced like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Tensor: ...


class PreparedImages:
    """Images as network inputs, prepared slice by slice on its device; images of several sizes one by one.

    ``samples`` are images or a uint8 tensor (n, 1 or 3, h, w); gray images are repeated to RGB.
    """

    def __init__(self, samples: Samples | Tensor, who: str, device: torch.device, prepare: Prepare) -> None:
        if isinstance(samples, Images):
            samples = samples.pixels
        if not isinstance(samples, Tensor | MixedImages):
            raise InputError(f"extractor {who!r} requires image samples")
        for pixels in samples.items if isinstance(samples, MixedImages) else (samples,):
            if pixels.dtype != torch.uint8 or pixels.ndim + isinstance(samples, MixedImages) != 4:
                raise _not_images(who, pixels)
            if pixels.shape[-3] not in (1, 3):
                raise _not_images(who, pixels)
        self._samples, self._device, self._prepare = samples, device, prepare

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, rows: slice) -> Float[Tensor, "k 3 s s"]:
        if isinstance(self._samples, MixedImages):
            items = staged_together(self._samples.items[rows], self._device)
            return torch.cat([self._prepare(item[None].expand(-1, 3, -1, -1)) for item in items])
        return self._prepare(staged(self._samples[rows], self._device).expand(-1, 3, -1, -1))


class Pieces:
    """Runs a function over a batch in pieces. On out-of-memory errors, it halves the pieces and continues."""

    def __init__(self, size: int, who: str) -> None:
        self._batches, self._who = Batches(size), who

    @property
    def size(self) -> int:
        """Number of samples per piece."""
        return self._batches.size

    def run(self, function: Forward, batch: Batch) -> tuple[Float[Tensor, "n d"], ...]:
        """Outputs of the function for the whole ``batch``, in order; float32 is computed in full."""
        try:
            with full_precision():
                parts = list(self._batches.over(0, len(batch), lambda start, stop: function(batch[start:stop])))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise ModelError(
                f"extractor {self._who!r} runs out of memory with a single sample: free memory, or use another --device"
            ) from error
        return tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))


def _not_images(who: str, pixels: Tensor) -> InputError:
    shape = f"{pixels.dtype} {tuple(pixels.shape)}"
    return InputError(f"extractor {who!r} requires uint8 images (n, 1 or 3, h, w), got {shape}")
