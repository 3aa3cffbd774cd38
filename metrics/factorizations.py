"""Factorizations in double precision, on a device or on the host: where they are faster on this machine.

The faster one differs between devices by orders of magnitude (a consumer card has a 64th of its speed in double
precision), and between operations on one device: both are measured. The last digits of a result depend on the choice;
:func:`use` sets one that was stored. Matrices on the host are factorized there, and nothing is measured.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int

from evalsvc.metrics.devices import indexed
from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Tensor

Seconds = Mapping[str, Mapping[str, float]]
"""By operation, the time that it takes on the ``device`` and on the ``host``."""

_SIZE = 768
_FALL, _LEAST = 0.98, 1e-9
OPERATIONS: dict[str, Callable[[Tensor], Any]] = {
    "eigh": lambda matrix: torch.linalg.eigh(matrix),
    "eigvalsh": lambda matrix: torch.linalg.eigvalsh(matrix),
    "cholesky_ex": lambda matrix: torch.linalg.cholesky_ex(matrix),
    "svd": lambda matrix: torch.linalg.svd(matrix),
    "svdvals": lambda matrix: torch.linalg.svdvals(matrix),
    "qr": lambda matrix: torch.linalg.qr(matrix, mode="r"),
    "product": lambda matrix: matrix.T @ matrix,
}
"""By name; choices that were measured with others are not used."""
_lock = threading.Lock()
_on_host: dict[torch.device, frozenset[str]] = {}


def measure(device: torch.device) -> dict[str, dict[str, float]]:
    """Seconds of each operation at 768 columns on the ``device`` and on the ``host``, copies included.

    The spectrum of the matrix falls as those of features do: a device's iterations take longer where it is wide.
    """
    spread = np.random.default_rng(0).standard_normal((_SIZE, _SIZE)) * _FALL ** np.arange(_SIZE)
    matrix = torch.from_numpy(spread @ spread.T + _LEAST * np.eye(_SIZE)).to(device)
    return {
        name: {
            "device": _seconds(operation, matrix),
            "host": _seconds(functools.partial(_by_host, operation), matrix),
        }
        for name, operation in OPERATIONS.items()
    }


def faster_on_host(seconds: Seconds) -> frozenset[str]:
    """The operations that a measurement found faster on the host."""
    return frozenset(name for name, found in seconds.items() if found["host"] < found["device"])


def use(device: torch.device, on_host: Collection[str]) -> None:
    """From now on these operations on matrices of ``device`` are done on the host, and all others on the device."""
    if unknown := set(on_host) - set(OPERATIONS):
        raise ValueError(f"unknown operations {sorted(unknown)}: choose among {', '.join(OPERATIONS)}")
    with _lock:
        _on_host[indexed(device)] = frozenset(on_host)


def is_on_host(operation: str, device: torch.device) -> bool:
    """Whether an operation on a matrix of ``device`` is done on the host; without :func:`use` both are measured once.

    The ``product`` is that of a matrix with its transpose.
    """
    if device.type == "cpu":
        return True
    with _lock:
        if device not in _on_host:
            _on_host[device] = faster_on_host(measure(device))
        return operation in _on_host[device]


def eigh(matrix: Float64[Tensor, "d d"]) -> tuple[Float64[Tensor, " d"], Float64[Tensor, "d d"]]:
    """Eigenvalues, ascending, and eigenvectors of a symmetric matrix, of which the lower triangle is read."""
    values, vectors = _found("eigh", matrix)
    return values, vectors


def eigvalsh(matrix: Float64[Tensor, "d d"]) -> Float64[Tensor, " d"]:
    """The eigenvalues that :func:`eigh` gives."""
    values: Tensor = _found("eigvalsh", matrix)
    return values


def cholesky_ex(matrix: Float64[Tensor, "d d"]) -> tuple[Float64[Tensor, "d d"], Int[Tensor, ""]]:
    """The lower Cholesky factor, and a number above 0 where the matrix is not positive definite."""
    lower, failed = _found("cholesky_ex", matrix)
    return lower, failed


def svd(
    matrix: Float64[Tensor, "n d"],
) -> tuple[Float64[Tensor, "n n"], Float64[Tensor, " k"], Float64[Tensor, "d d"]]:
    """The full singular value decomposition: ``U, S, V.T``."""
    left, values, right = _found("svd", matrix)
    return left, values, right


def svdvals(matrix: Float64[Tensor, "n d"]) -> Float64[Tensor, " k"]:
    """The singular values, descending."""
    values: Tensor = _found("svdvals", matrix)
    return values


def qr_upper(matrix: Float64[Tensor, "n d"]) -> Float64[Tensor, "k d"]:
    """The upper triangular R of a QR factorization."""
    upper: Tensor = _found("qr", matrix).R
    return upper


def _found(name: str, matrix: Tensor) -> Any:
    operation = OPERATIONS[name]
    if matrix.device.type != "cpu" and is_on_host(name, matrix.device):
        return _by_host(operation, matrix)
    return operation(matrix)


def _by_host(operation: Callable[[Tensor], Any], matrix: Tensor) -> Any:
    found = operation(matrix.cpu())
    if isinstance(found, torch.Tensor):
        return found.to(matrix.device)
    return type(found)(each.to(matrix.device) for each in found)


def _seconds(operation: Callable[[Tensor], Any], matrix: Tensor) -> float:
    """The faster of two times, of which the first may load libraries and kernels."""
    found = []
    for _ in range(2):
        started = time.perf_counter()
        operation(matrix)
        float(matrix[0, 0])  # is there only after all work before
        found.append(time.perf_counter() - started)
    return min(found)
