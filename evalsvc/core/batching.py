"""Work in batches that fit: out of memory, the batch is halved and the work goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from evalsvc.core.errors import ModelError

T = TypeVar("T")


class Batches:
    """The size of a batch, which shrinks to what the memory holds and stays there."""

    def __init__(self, size: int) -> None:
        self.size = size

    def over(self, start: int, stop: int, work: Callable[[int, int], T]) -> Iterator[T]:
        """The results of ``work(first, last)`` over consecutive ranges, in order; a single item must fit."""
        while start < stop:
            end = min(start + self.size, stop)
            try:
                result = work(start, end)
            except (RuntimeError, MemoryError, ModelError) as error:
                if end - start == 1 or not out_of_memory(error):
                    raise
                self.size = (end - start) // 2
            else:
                yield result
                start = end
                continue
            # Not in the handler: the error's frames hold what was allocated.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or its cause, is a lack of memory. CUDA has a type for it; the CPU and MPS only say so."""
    if error is None:
        return False
    text = str(error).lower()
    here = isinstance(error, torch.OutOfMemoryError | MemoryError) or ("memory" in text and "alloc" in text)
    return here or out_of_memory(error.__cause__)
