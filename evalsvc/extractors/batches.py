"""A batch in pieces that fit: what every network extractor shares."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from evalsvc.errors import InputError, ModelError
from evalsvc.samples import Images, Samples

Forward = Callable[[Tensor], tuple[Tensor, ...]]


def pixels_of(samples: Samples | Tensor, who: str) -> UInt8[Tensor, "n 3 h w"]:
    """The RGB pixels of images, or of a bare uint8 tensor (n, 1 or 3, h, w); grey is repeated."""
    pixels = samples.pixels if isinstance(samples, Images) else samples
    if not isinstance(pixels, Tensor):
        raise InputError(f"extractor {who!r} reads images")
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise InputError(
            f"extractor {who!r} reads uint8 images (n, 1 or 3, h, w) and was given {pixels.dtype} {tuple(pixels.shape)}"
        )
    return pixels.expand(-1, 3, -1, -1)


class Pieces:
    """Runs a function over a batch in pieces. Out of memory, it halves the pieces and goes on where it was."""

    def __init__(self, size: int, who: str) -> None:
        self.size, self._who = size, who

    def run(self, function: Forward, batch: Tensor) -> tuple[Float[Tensor, "n d"], ...]:
        """The function's outputs over all of ``batch``, in order."""
        done: list[tuple[Tensor, ...]] = []
        start = 0
        while start < len(batch):
            try:
                done.append(function(batch[start : start + self.size]))
                start += self.size
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if self.size == 1:
                    raise ModelError(
                        f"extractor {self._who!r} runs out of memory with a single sample: free some, or take another "
                        "--device"
                    ) from error
                self.size //= 2
                if batch.device.type == "cuda":
                    torch.cuda.empty_cache()
        return tuple(torch.cat(parts) for parts in zip(*done, strict=True))


def _out_of_memory(error: BaseException) -> bool:
    """CUDA has a type for it; the CPU allocator and MPS only say so."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or ("memory" in text and "alloc" in text)
