"""Mean and covariance of a set, in one pass and mergeable: all that a Frechet distance needs to know of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64
from scipy.linalg.blas import dsyrk

from evalsvc.metrics import factorizations
from evalsvc.metrics.arrays import as_matrix, as_vector
from evalsvc.metrics.devices import device_of, on_host, staged, together
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.precomputed import Arrays, Precomputed, Values
from evalsvc.metrics.score import MetricError

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 1024
_BLOCK_BYTES = 2**23
_BAND = 256


class Moments:
    """Number of rows, mean and covariance (ddof 1) of a set of d-dimensional rows, in float64.

    Grows in place by :meth:`update` and :meth:`merge_state`; any split of the rows, in any order, gives the same
    moments up to rounding, which is relative to the spread of
    the data at any distance of its mean from the origin.

    >>> moments = Moments.of(np.array([[0.0], [2.0]])).update(np.array([[4.0]]))
    >>> moments.n, moments.mean.tolist(), moments.covariance.tolist()
    (3, [2.0], [[4.0]])
    """

    def __init__(self, n: int, mean: Any, covariance: Any) -> None:
        """Take known moments; ``covariance`` is (d, d) with ddof 1. Raises :class:`MetricError` on a misfit."""
        self._n = int(n)
        self._mean, covariance = together(as_vector(mean, "mean"), as_matrix(covariance, "covariance").double())
        d = len(self._mean)
        if self._n < 1 or covariance.shape != (d, d):
            raise MetricError(
                f"moments of n = {n} rows with a mean of length {d} and a covariance of shape "
                f"{tuple(covariance.shape)} do not fit together"
            )
        self._scatter = (covariance + covariance.T).mul_(0.5 * (self._n - 1))
        self._factor: Tensor | None = None

    @classmethod
    def of(cls, x: Any) -> Moments:
        """Moments of the rows of ``x`` (n, d), read in blocks: memory is O(d^2) for any length of ``x``."""
        matrix = as_matrix(x, "x")
        return cls.of_blocks(torch.split(matrix, max(_ROWS, _BLOCK_BYTES // (8 * matrix.shape[1]))))

    @classmethod
    def of_blocks(cls, blocks: Iterable[Tensor]) -> Moments:
        """Moments of finite (m, d) blocks that are read once and together have at least one row."""
        return cls.of_sums(*_sums(iter(blocks)))

    @classmethod
    def of_sums(cls, n: int, mean: Tensor, scatter: Tensor) -> Moments:
        """Moments from the known sum of ``(x - mean)(x - mean)'`` in float64; all is kept as given."""
        moments = cls.__new__(cls)
        moments._n, moments._mean, moments._scatter, moments._factor = n, mean, scatter, None
        return moments

    @property
    def n(self) -> int:
        """Number of rows."""
        return self._n

    @property
    def mean(self) -> Float64[Tensor, " d"]:
        """Mean row."""
        return self._mean

    @property
    def covariance(self) -> Float64[Tensor, "d d"]:
        """Covariance with ddof 1; :class:`MetricError` for a single row, which has none."""
        covariance: Tensor = self._scatter / self.freedom
        return covariance

    @property
    def device(self) -> torch.device:
        """Where mean and covariance are."""
        return self._mean.device

    def there(self) -> Moments:
        """The same moments where they are computed (:mod:`evalsvc.metrics.devices`)."""
        device = device_of(self._mean)
        if device == self.device:
            return self
        return Moments.of_sums(self._n, staged(self._mean, device), staged(self._scatter, device))

    @property
    def trace(self) -> float:
        """Trace of the covariance."""
        return float(self._scatter.trace()) / self.freedom

    @property
    def scatter(self) -> Float64[Tensor, "d d"]:
        """Sum of ``(x - mean)(x - mean)'``."""
        scatter: Tensor = self._scatter
        return scatter

    @property
    def factor(self) -> Float64[Tensor, "d d"]:
        """The upper triangular R with ``covariance = R.T @ R``, found once and kept until the moments change."""
        if self._factor is None:
            self._factor = _factor(self._scatter).div_(self.freedom**0.5)
        return self._factor

    @property
    def freedom(self) -> int:
        """``n - 1``; :class:`MetricError` for a single row, which has no covariance."""
        if self._n < 2:
            raise MetricError("a covariance needs at least 2 rows; these are moments of 1")
        return self._n - 1

    def update(self, x: Any) -> Moments:
        """Take in the rows of ``x`` (n, d); returns itself."""
        return self.merge_state(Moments.of(x))

    def merge_state(self, other: Moments) -> Moments:
        """Take in the rows behind ``other`` (Chan, Golub and LeVeque 1983); returns itself."""
        if len(other.mean) != len(self._mean):
            raise MetricError(f"moments of {len(self._mean)} and of {len(other.mean)} columns cannot be merged")
        n = self._n + other.n
        step = staged(other._mean, self.device) - self._mean
        self._scatter = self._scatter + staged(other._scatter, self.device)
        self._scatter.addr_(step, step, alpha=self._n * other.n / n)
        self._mean = self._mean + step * (other.n / n)
        self._n = n
        self._factor = None
        return self

    def __repr__(self) -> str:
        return f"Moments(n={self._n}, d={len(self._mean)})"


def _find(inputs: Values, options: Values) -> dict[str, np.ndarray]:
    moments = Moments.of(inputs["reference"])
    return {"mean": on_host(moments.mean), "scatter": on_host(moments.scatter)}


def _restore(arrays: Arrays, inputs: Values, options: Values) -> Moments:
    return Moments.of_sums(len(inputs["reference"]), *(torch.from_numpy(arrays[name]) for name in ("mean", "scatter")))


def _are_many(inputs: Values) -> bool:
    """Few rows are cheaper as they are."""
    reference = inputs["reference"]
    return not isinstance(reference, Moments) and len(reference) >= reference.shape[1]


REFERENCE_MOMENTS = Precomputed(
    "reference_moments", ("reference",), lambda options: "moments", _find, _restore, _are_many
)
"""Of a metric that knows a reference by its moments, so that published ones serve as well as its samples."""


def _sums(blocks: Iterator[Tensor]) -> tuple[int, Tensor, Tensor]:
    """Number of rows, mean, and centered sum of squares.

    All is shifted by the first block's mean, so that a far origin costs no digits. Where the host is faster than the
    device of the blocks, the products are taken there.
    """
    first = next(blocks)
    device = device_of(first)
    at_host = factorizations.is_on_host("product", device)
    place = torch.device("cpu") if at_host else device
    n = 0
    shift = staged(first, place, torch.float64).mean(0)
    total = torch.zeros_like(shift)
    scatter = shift.new_zeros((len(shift), len(shift)))
    add = _add_on_host if at_host else _add
    buffer = shift.new_empty(first.shape)
    for block in itertools.chain([first], blocks):
        if len(block) > len(buffer):
            buffer = shift.new_empty(block.shape)
        add(total, scatter, staged(block, place), shift, buffer[: len(block)])
        n += len(block)
    if at_host:
        _mirror(scatter.numpy())
    scatter.addr_(total, total, alpha=-1 / n)
    return n, staged(shift + total / n, device), staged(scatter, device)


def _add(total: Tensor, scatter: Tensor, block: Tensor, shift: Tensor, centered: Tensor) -> None:
    """Add the sum and the Gram matrix of ``block - shift``, for which ``centered`` is the room."""
    torch.sub(block, shift, out=centered)
    total += centered.sum(0)
    scatter.addmm_(centered.T, centered)


def _add_on_host(total: Tensor, scatter: Tensor, block: Tensor, shift: Tensor, centered: Tensor) -> None:
    """The same, of the Gram matrix the lower triangle alone: half the work.

    NumPy subtracts, because torch's threads would still spin when those of SciPy's BLAS begin, which costs a third.
    """
    np.subtract(block.numpy(), shift.numpy(), out=centered.numpy())
    total += torch.from_numpy(centered.numpy().sum(0))
    # BLAS counts in columns, so the upper triangle of the transpose is asked for.
    dsyrk(1.0, centered.numpy().T, beta=1.0, c=scatter.numpy().T, overwrite_c=1)


def _mirror(lower: np.ndarray) -> None:
    """Mirror the lower triangle, band by band in place; by NumPy, because SciPy's threads still spin."""
    for start in range(0, len(lower), _BAND):
        stop = start + _BAND
        lower[start:stop, stop:] = lower[stop:, start:stop].T
        corner = lower[start:stop, start:stop]
        corner += np.tril(corner, -1).T


def _factor(scatter: Tensor) -> Tensor:
    lower, failed = factorizations.cholesky_ex(scatter)
    factor: Tensor = lower.mT
    if failed:
        values, vectors = factorizations.eigh(scatter)
        factor = factorizations.qr_upper((vectors * values.clamp(min=0).sqrt()).mT)
    return factor
