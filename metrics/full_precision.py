"""Full float32 arithmetic, for any switches that a plug-in or a user has set for the process.

TensorFloat-32 products and convolutions keep 10 bits of a number, bfloat16 ones 7: features computed with them are
others (2e-3 to 7e-3 of their size), under the same protocol. The switches belong to the process, so holders are
counted: the first sets them, the last puts back what it found.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

_LEAVES = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
"""Settings of ``torch.backends`` (torch 2.9 and later) that decide how float32 is computed; others are inherited."""
_FULL = ("none", "ieee")
_lock = threading.Lock()
_holders = 0
_TF32 = {"cudnn": ("cudnn.conv", "cudnn.rnn"), "cuda.matmul": ("cuda.matmul",)}
"""Switches of TensorFloat-32 on CUDA devices, with their leaves."""
_fast_holders = dict.fromkeys(_TF32, 0)
_put_back: Callable[[], None]


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 products, convolutions and recurrent cells are computed in float32, here and in all other threads.

    By the interface that the installed torch has (``fp32_precision``, ``allow_tf32``), for any earlier use of it;
    cuDNN chooses no algorithm by measurement. What the work within changes of these switches is put back as well.
    Without torch in the process it does nothing.
    """
    global _holders, _put_back
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    with _lock:
        if _holders == 0:
            _put_back = _set(torch)
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _put_back()


@contextmanager
def tensor_float32(*, products: bool = True) -> Iterator[None]:
    """TensorFloat-32 convolutions on CUDA devices, and ``products``, for a network whose protocol says so.

    Whatever the switches say, and within :func:`full_precision` too, which it is after the last holder again. Torch
    has no switch for one thread: meanwhile other threads of the process compute so on CUDA devices as well.
    """
    switches = list(_TF32) if products else ["cudnn"]
    with full_precision():
        torch = sys.modules["torch"]
        with _lock:
            for switch in switches:
                _fast_holders[switch] += 1
                _leaf(torch, switch).allow_tf32 = True
        try:
            yield
        finally:
            with _lock:
                for switch in switches:
                    _fast_holders[switch] -= 1
                    if _fast_holders[switch] == 0:
                        _leaf(torch, switch).allow_tf32 = False
                        _complete(torch, _TF32[switch])


def _set(torch: Any) -> Callable[[], None]:
    """Set the switches; the function returned puts back what was found."""
    cudnn, benchmark = torch.backends.cudnn, torch.backends.cudnn.benchmark
    matmul, tf32 = _legacy(torch)
    before = _precisions(torch)
    cudnn.benchmark = False
    if matmul is not None:
        torch.set_float32_matmul_precision("highest")
    if tf32 is not None:
        cudnn.allow_tf32 = False
    _complete(torch, _LEAVES)

    def put_back() -> None:
        cudnn.benchmark = benchmark
        if matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        if tf32 is not None:
            cudnn.allow_tf32 = tf32
        for leaf, found in _precisions(torch).items():
            if found != before[leaf]:
                # Inherited as it may have been, and set where that is not what was there.
                _leaf(torch, leaf).fp32_precision = "none"
                if _leaf(torch, leaf).fp32_precision != before[leaf]:
                    _leaf(torch, leaf).fp32_precision = before[leaf]

    return put_back


def _complete(torch: Any, leaves: Sequence[str]) -> None:
    """Full precision of the leaves that are still another, as inherited ones are."""
    for leaf, found in _precisions(torch).items():
        if leaf in leaves and found not in _FULL:
            _leaf(torch, leaf).fp32_precision = "ieee"


def _legacy(torch: Any) -> tuple[str | None, bool | None]:
    """The switches of before torch 2.9; ``None`` where those of today were used, beside which torch refuses them."""
    matmul = tf32 = None
    with suppress(RuntimeError):
        matmul = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        tf32 = torch.backends.cudnn.allow_tf32
    return matmul, tf32


def _precisions(torch: Any) -> dict[str, str]:
    """The setting of every leaf that the installed torch has."""
    return {name: leaf.fp32_precision for name in _LEAVES if (leaf := _leaf(torch, name)) is not None}


def _leaf(torch: Any, name: str) -> Any:
    backend, _, operation = name.partition(".")
    found = getattr(torch.backends, backend, None)
    leaf = getattr(found, operation, None) if operation else found
    return leaf if hasattr(leaf, "fp32_precision") else None
