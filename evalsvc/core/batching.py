"""Batches that fit into memory: after an out-of-memory error, the batch size is halved and the work continues."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from evalsvc.core.errors import EvalsvcError, causes
from evalsvc.metrics.lazy_torch import torch

T = TypeVar("T")
_FULL = re.compile(
    "|".join(
        (
            r"out of memory",  # CUDA, HIP, XPU and MPS, by allocator or by runtime; oneDNN
            r"(can't|cannot|could not) allocate memory(?! (for|on|inside) )|not enough memory|bad[_ ]alloc",  # host
            r"_STATUS_ALLOC_FAILED|(CU|HIP)FFT_ALLOC_FAILED|rocblas_status_memory_error|miopenStatusAllocFailed",
            r"CUDNN_STATUS_INTERNAL_ERROR_(HOST|DEVICE)_ALLOCATION_FAILED",
            r"(BLAS|SOLVER|SPARSE)_STATUS_NOT_INITIALIZED\W.*Create\b",  # a handle's workspace
            # cuDNN's plans fail one after the other, and torch tells that none is left.
            r"unable to find an engine to execute|unable to find a valid cudnn algorithm",
            r"failed to allocate memory for requested buffer|is smaller than requested bytes",  # ONNX Runtime
            r"CL_OUT_OF_(RESOURCES|HOST_MEMORY)|CL_MEM_OBJECT_ALLOCATION_FAILURE|exceeded max size of memory",  # OpenCL
        )
    ),
    re.IGNORECASE,
)
_QUOTES = (EvalsvcError, ValueError, LookupError, TypeError)
"""Errors whose text may quote a sample, such as an answer that cannot be read as a number; no allocator raises them."""


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
            except Exception as error:  # those of ONNX Runtime have no other base
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


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it comes from, says that memory is full: of a device, of the host, of a library.

    The process can go on: an allocation that failed leaves a CUDA context usable, and torch clears the error, also
    where it is a ``torch.AcceleratorError``.
    """
    return any(
        isinstance(each, MemoryError) or (not isinstance(each, _QUOTES) and says_full(str(each)))
        for each in causes(error)
    )


def says_full(text: str) -> bool:
    """Whether the text of an error is that of an allocator that found no memory.

    >>> says_full("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    True
    >>> says_full("CUDA error: an illegal memory access was encountered")
    False
    """
    return _FULL.search(text) is not None


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a CUDA device, or that this process keeps there without using them."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + kept)
