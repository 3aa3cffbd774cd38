"""Batches that fit into memory: after an out-of-memory error, the batch size is halved and the work continues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from evalsvc.core.errors import ModelError
from evalsvc.metrics.lazy_torch import torch

T = TypeVar("T")


class Batches:
    """A batch size that shrinks until the batches fit into memory, and stays there."""

    def __init__(self, size: int) -> None:
        self.size = size

    def over(self, start: int, stop: int, work: Callable[[int, int], T]) -> Iterator[T]:
        """Yield the results of ``work(first, last)`` over consecutive ranges, in order; a single item must fit."""
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
            # Outside of the handler: the frames of the error keep the allocated memory alive.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error or its cause is an out-of-memory error: a type of its own on CUDA, a message on CPU and MPS."""
    if error is None:
        return False
    text = str(error).lower()
    here = isinstance(error, torch.OutOfMemoryError | MemoryError) or ("memory" in text and "alloc" in text)
    return here or out_of_memory(error.__cause__)
