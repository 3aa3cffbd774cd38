import pytest
import torch

from evalsvc.core.batching import Batches, out_of_memory
from evalsvc.core.errors import ModelError


class FailError(Exception):
    """As ONNX Runtime raises it."""


FULL = [
    FailError("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer of size 4294967296"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB"),
    torch.OutOfMemoryError("Allocation on device 0 would exceed allowed memory. (out of memory)"),
    torch.AcceleratorError(
        "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia.com"
    ),
    MemoryError(),
    MemoryError("Unable to allocate 7.28 TiB for an array with shape (1000000, 1000000) and data type float64"),
    *map(
        RuntimeError,
        (
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
            "cusolver error: CUSOLVER_STATUS_NOT_INITIALIZED, when calling `cusolverDnCreate(handle)`",
            "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnXsyevd(...)`",
            "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
            "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
            "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
            "cuFFT error: CUFFT_ALLOC_FAILED",
            "GET was unable to find an engine to execute this computation",
            "FIND was unable to find an engine to execute this computation",
            "Unable to find a valid cuDNN algorithm to run convolution",
            "MPS backend out of memory (MPS allocated: 8.12 GB, other allocations: 1.00 GB, max allowed: 9.07 GB)",
            "HIP out of memory. Tried to allocate 20.00 MiB",
            "HIP error: out of memory",
            "HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`",
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 281474976710656 bytes. Error code 12 (Cannot allocate memory)",
            "[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: you tried to allocate 9",
            "std::bad_alloc",
            "Available memory of 1024 is smaller than requested bytes of 4096",
            "CUDA failure 2: out of memory ; GPU=0",
            "Exception from src/inference: Could not allocate memory",
            "[GPU] Exceeded max size of memory object allocation: requested 8 bytes, but max alloc size is 4 bytes",
            "[GPU] clWaitForEvents, error code: -5 CL_OUT_OF_RESOURCES",
        ),
    ),
]
OTHERS = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nDevice-side allocation was traced"),
    torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`"),
    *map(
        RuntimeError,
        (
            "required rank 4 tensor to use channels_last memory format; allocate another",
            "Need to provide pin_memory allocator to use pin memory.",
            "cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned",
            "unsupported operation: some elements of the input tensor refer to a single memory location",
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasSgemm(handle)`",
            "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(handle)`",
            "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input.",
            "Can't allocate memory on the CUDA device using this package of OnnxRuntime",
            "Cannot allocate memory for incompatible descriptors.",
        ),
    ),
    ValueError("the pipeline's memory has no allocated slot"),
    ValueError("invalid literal for int() with base 10: 'I am out of memory'"),
    KeyError("out of memory"),
    ModelError("generator 'x' failed: ValueError: no answer in 'out of memory'"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_every_allocator_that_finds_no_memory_is_understood(error):
    assert out_of_memory(error)


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_errors_that_only_mention_memory_are_others(error):
    assert not out_of_memory(error)


def raised(text, source, cause):
    """An error as it is caught that was raised while another was handled."""
    try:
        try:
            raise source
        except Exception:
            if cause == "none":
                raise ModelError(text) from None
            if cause == "context":
                raise ModelError(text)  # noqa: B904
            raise ModelError(text) from source
    except ModelError as error:
        return error


def test_an_error_that_was_raised_while_memory_was_full_is_full_unless_its_author_hid_that():
    assert out_of_memory(raised("generator failed", FULL[0], "from"))
    assert out_of_memory(raised("generator failed", FULL[0], "context"))
    assert not out_of_memory(raised("generator failed", FULL[0], "none"))
    assert not out_of_memory(raised("generator failed", OTHERS[0], "from"))


@pytest.mark.parametrize("error", FULL[:4], ids=str)
def test_full_batches_are_halved_and_what_does_not_fit_alone_raises(error):
    def work(start, stop):
        if stop - start > 3:
            raise ModelError("generator 'x' failed") from error
        return range(start, stop)

    batches = Batches(13)
    assert [row for rows in batches.over(0, 20, work) for row in rows] == [*range(20)]
    assert batches.size == 3
    with pytest.raises(type(error)):
        list(batches.over(0, 1, lambda start, stop: (_ for _ in ()).throw(error)))
