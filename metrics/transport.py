"""Optimal transport between normal laws: what their covariances add to the Frechet distance.

The part of two covariances is ``tr S + tr Q - 2 tr (S Q)^(1/2)``. With factors ``S = A'A`` and ``Q = B'B`` the last
trace is the nuclear norm of ``A B'``, so that symmetric eigenvalues suffice and a set of n < d rows costs n x n.
"""

from __future__ import annotations

import functools
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, Float32, Float64

from evalsvc.metrics import factorizations
from evalsvc.metrics.arrays import as_matrix
from evalsvc.metrics.devices import device_of, staged
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.moments import Moments

if TYPE_CHECKING:
    from torch import Tensor

_EPS = sys.float_info.epsilon
_TOLERANCE = 1e-9
_NEAR = 1e-6
_BAND = 256


@dataclass(frozen=True)
class Gaussian:
    """A set seen as a normal law: by its moments, or by its centered rows where those are fewer than the columns.

    ``rows`` are scaled so that ``rows.T @ rows`` is the covariance; exactly one of ``moments`` and ``rows`` is there.
    """

    n: int
    mean: Tensor
    moments: Moments | None
    rows: Tensor | None

    @classmethod
    def of(cls, x: Any, name: str) -> Gaussian:
        """The law of :class:`Moments` or of an array (n, d) with at least two rows."""
        if isinstance(x, Moments):
            return cls.of_moments(x)
        matrix = as_matrix(x, name, minimum=2)
        n, d = matrix.shape
        return cls.of_rows(matrix) if n < d else cls.of_moments(Moments.of(matrix))

    @classmethod
    def of_moments(cls, moments: Moments) -> Gaussian:
        """The law of known moments."""
        moments = moments.there()
        return cls(moments.n, moments.mean, moments, None)

    @classmethod
    def of_rows(cls, matrix: Tensor) -> Gaussian:
        """The law of few rows (n, d), all held in float64."""
        rows = staged(matrix, device_of(matrix), torch.float64)
        mean = rows.mean(0)
        return cls(len(rows), mean, None, (rows - mean) / math.sqrt(len(rows) - 1))

    @functools.cached_property
    def trace(self) -> float:
        """Trace of the covariance."""
        if self.rows is not None:
            return float(self.rows.square().sum())
        assert self.moments is not None
        return self.moments.trace

    @property
    def factor(self) -> Tensor:
        """A matrix of d columns whose Gram matrix is the covariance."""
        if self.rows is not None:
            return self.rows
        assert self.moments is not None
        return self.moments.factor

    @property
    def rank(self) -> int:
        """The largest rank that the covariance can have."""
        return min(self.n - 1, len(self.mean))

    def times(self, matrix: Tensor) -> Tensor:
        """``covariance @ matrix``."""
        if self.rows is not None:
            return self.rows.T @ (self.rows @ matrix)
        assert self.moments is not None
        return (self.moments.scatter @ matrix).div_(self.moments.freedom)

    def within(self, factor: Tensor) -> Tensor:
        """``factor @ covariance @ factor.T``; the lower triangle alone is filled for sure.

        A square factor is taken for the upper triangle that :class:`Moments` give.
        """
        if self.rows is not None:
            product = factor @ self.rows.T
            return product @ product.T
        assert self.moments is not None
        scatter, freedom = self.moments.scatter, self.moments.freedom
        if len(factor) == factor.shape[1]:
            return _triangular_congruence(factor, scatter).div_(freedom)
        return (factor @ scatter @ factor.T).div_(freedom)


@dataclass(frozen=True)
class Transport:
    """Two laws in common coordinates, which have the same variances under both, from one spectrum in double precision.

    ``values``, which are on the host, and ``vectors`` are those of ``first`` within the factor of ``second``. A
    spectrum in single precision drops all directions below 1e-4 of the largest eigenvalue, which is a product of two
    covariances: three quarters of them where variances fall as 1 / k. In double precision a dropped direction has no
    variance to speak of.
    """

    first: Gaussian
    second: Gaussian
    values: Float64[Tensor, " k"]
    vectors: Float64[Tensor, "f k"]

    @classmethod
    def between(cls, first: Gaussian, second: Gaussian) -> Transport:
        """Find the spectrum of ``first`` within the factor of ``second``."""
        values, vectors = factorizations.eigh(first.within(second.factor))
        rank = min(first.rank, second.rank)
        return cls(first, second, values[-rank:].cpu(), vectors[:, -rank:])

    @functools.cached_property
    def of_first(self) -> Coordinates:
        """Of rows of ``first``."""
        return Coordinates.of(self._root, self.unit)

    @functools.cached_property
    def of_second(self) -> Coordinates:
        """Of rows of ``second``; it needs no inverse of a factor."""
        return Coordinates.of(self.first.times(self._root).mul_(self._there.rsqrt()), self.unit)

    @functools.cached_property
    def of_factor(self) -> Float64[Tensor, "f k"]:
        """Of the rows of the factor of ``second`` themselves."""
        return self._real * (self._there.sqrt() / self.unit)

    @functools.cached_property
    def variances(self) -> Float64[Tensor, " k"]:
        """The eigenvalues of the product of both covariances on the host, ascending, without those of rounding."""
        real = self.values > len(self.vectors) * _EPS * self.values[-1]
        return self.values[len(real) - int(real.sum()) :]

    @property
    def unit(self) -> float:
        """The unit of coordinates: the root of the largest variance."""
        return math.sqrt(float(self.variances[-1])) if len(self.variances) else 1.0

    @functools.cached_property
    def _root(self) -> Float64[Tensor, "d k"]:
        factor, real = self.second.factor, self._real
        if len(factor) < factor.shape[1]:
            return factor.T @ real
        bands = [(start, min(start + _BAND, len(factor))) for start in range(0, len(factor), _BAND)]
        return torch.cat([factor[:stop, start:stop].T @ real[:stop] for start, stop in bands])

    @functools.cached_property
    def _there(self) -> Float64[Tensor, " k"]:
        """The variances where the vectors are."""
        return self.variances.to(self.vectors.device)

    @property
    def _real(self) -> Float64[Tensor, "f k"]:
        return self.vectors[:, self.vectors.shape[1] - len(self.variances) :]


@dataclass(frozen=True)
class Coordinates:
    """A map from centered rows to coordinates: a product in single precision, with the scales taken out first."""

    root: Float32[Tensor, "d k"]
    scale: Float64[Tensor, ""]

    @classmethod
    def of(cls, root: Float64[Tensor, "d k"], unit: float) -> Coordinates:
        """The map ``root``, whose results are given in units of ``unit``."""
        narrow, size = _narrow(root)
        return cls(narrow, size / unit)

    def __call__(self, rows: Float[Tensor, "n d"]) -> Float32[Tensor, "n k"]:
        """The coordinates of rows."""
        narrow, size = _narrow(rows)
        return (narrow @ self.root).mul_(size * self.scale)


def _narrow(x: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix in single precision over a power of two near its largest entry, and that power."""
    lowest, highest = x.aminmax() if x.numel() else x.new_zeros(2)
    size = torch.frexp(torch.maximum(-lowest, highest)).exponent.double().exp2()
    return torch.mul(x, 1 / size).float(), size


def covariance_part(first: Gaussian, second: Gaussian, mean_part: float, values: Tensor | None = None) -> float:
    """``tr S + tr Q - 2 tr (S Q)^(1/2)``, never negative; exact to 1e-9 of the traces, and better near equality.

    ``mean_part`` is what the means add to the distance: digits lost far below it need not be won back. ``values`` are
    those of their :class:`Transport`, where that is known.
    """
    total = first.trace + second.trace
    if values is None:
        smaller = first.rows is None or (second.rows is not None and second.n < first.n)
        inner = first.within(second.factor) if smaller else second.within(first.factor)
        values = factorizations.eigvalsh(inner)[-min(first.rank, second.rank) :].cpu()
    overlap = float(values.clamp(min=0).sqrt().sum())
    if total + mean_part - 2 * overlap < _NEAR * total:
        return _residual(first.factor, second.factor)
    if _rounding(values) > _TOLERANCE * total:
        overlap = float(factorizations.svdvals(first.factor @ second.factor.T).sum())
    return max(0.0, total - 2 * overlap)


def _rounding(values: Tensor) -> float:
    """How far rounding may move the sum of the roots: noise in tiny values adds up, in the others it averages out."""
    noise = 4 * _EPS * float(values[-1])
    roots = values.clamp(min=noise).sqrt()
    tiny = values < noise
    return float(roots[tiny].sum()) + noise * float(roots[~tiny].reciprocal().norm())


def _residual(first: Tensor, second: Tensor) -> float:
    """The covariance part as the least squared distance between rotated factors: a sum of squares, exact near zero."""
    left, _, right = factorizations.svd(first @ second.T)
    first, second = left.T @ first, right @ second
    shared = min(len(first), len(second))
    rest = first[shared:].square().sum() + second[shared:].square().sum()
    return float((first[:shared] - second[:shared]).square().sum() + rest)


def _triangular_congruence(upper: Tensor, middle: Tensor) -> Tensor:
    """Lower triangle of ``upper @ middle @ upper.T`` for a symmetric ``middle``, at a third of two full products' work.

    Band by band, of which each needs only what lies to its right and below: ``right`` reaches the corner from both
    sides, so that half of it stands in ``cross``, which is added once as it is and once transposed.
    """
    result = torch.zeros_like(middle)
    for start in range(0, len(upper), _BAND):
        band, rest = slice(start, start + _BAND), slice(start + _BAND, None)
        corner, beside = upper[band, band], upper[band, rest]
        left, right = corner @ middle[band, rest], beside @ middle[rest, rest]
        cross = torch.add(left, right, alpha=0.5) @ beside.T
        result[band, band] = corner @ middle[band, band] @ corner.T + cross + cross.T
        column = (left + right).T
        for below in range(start + _BAND, len(upper), _BAND):
            rows = slice(below, below + _BAND)
            torch.matmul(upper[rows, below:], column[below - start - _BAND :], out=result[rows, band])
    return result
