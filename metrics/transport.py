"""Optimal transport between normal laws: what their covariances add to the Frechet distance, and its gradient.

The part of two covariances is ``tr S + tr Q - 2 tr (S Q)^(1/2)``. With factors ``S = A'A`` and ``Q = B'B`` the last
trace is the nuclear norm of ``A B'``, so that symmetric eigenvalues suffice and a set of n < d rows costs n x n.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalsvc.metrics.arrays import as_matrix
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
        return cls(moments.n, moments.mean, moments, None)

    @classmethod
    def of_rows(cls, matrix: Tensor) -> Gaussian:
        """The law of few rows (n, d), all held in float64."""
        rows = matrix.to(torch.float64)
        mean = rows.mean(0)
        return cls(len(rows), mean, None, (rows - mean) / math.sqrt(len(rows) - 1))

    @property
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

    def within(self, factor: Tensor) -> Tensor:
        """``factor @ covariance @ factor.T`` in the factor's precision; the lower triangle alone is filled for sure.

        A square factor is taken for the upper triangle that :class:`Moments` give.
        """
        if self.rows is not None:
            product = factor @ self.rows.to(factor.dtype).T
            return product @ product.T
        assert self.moments is not None
        scatter, freedom = self.moments.scatter, self.moments.freedom
        if len(factor) == factor.shape[1]:
            return _triangular_congruence(factor, scatter).div_(freedom)
        return (factor @ scatter.to(factor.dtype) @ factor.T).div_(freedom)


def covariance_part(first: Gaussian, second: Gaussian, mean_part: float, inner: Tensor | None = None) -> float:
    """``tr S + tr Q - 2 tr (S Q)^(1/2)``, never negative; exact to 1e-9 of the traces, and better near equality.

    ``mean_part`` is what the means add to the distance: digits lost far below it need not be won back. ``inner`` is
    one law within a factor of the other, where that is known.
    """
    total = first.trace + second.trace
    if inner is None:
        smaller = first.rows is None or (second.rows is not None and second.n < first.n)
        inner = first.within(second.factor) if smaller else second.within(first.factor)
    values = torch.linalg.eigvalsh(inner)[-min(first.rank, second.rank) :]
    overlap = float(values.clamp(min=0).sqrt().sum())
    if total + mean_part - 2 * overlap < _NEAR * total:
        return _residual(first.factor, second.factor)
    if _rounding(values) > _TOLERANCE * total:
        overlap = float(torch.linalg.svdvals(first.factor @ second.factor.T).sum())
    return max(0.0, total - 2 * overlap)


def transport_root(first: Gaussian, second: Gaussian, inner: Tensor) -> Tensor:
    """A factor G of the map ``T = G G'`` that transports the first covariance to the second.

    ``inner`` is the first law within the second's factor. In single precision, which is ample for a standard error:
    what it garbles are directions of hardly any variance.
    """
    values, vectors = torch.linalg.eigh(inner.float())
    values, vectors = values[-min(first.rank, second.rank) :], vectors[:, -min(first.rank, second.rank) :]
    real = values > len(inner) * torch.finfo(values.dtype).eps * values[-1]
    root: Tensor = second.factor.float().T @ (vectors[:, real] * values[real].pow(-0.25))
    return root


def transported_squares(gram: Tensor) -> Tensor:
    """``x' T x`` of rows x that T transports to a law, from that law within the rows; in single precision too."""
    values, vectors = torch.linalg.eigh(gram.float())
    squares: Tensor = vectors.square() @ values.clamp(min=0).sqrt()
    return squares.double()


def _rounding(values: Tensor) -> float:
    """How far rounding may move the sum of the roots: noise in tiny values adds up, in the others it averages out."""
    noise = 4 * _EPS * float(values[-1])
    roots = values.clamp(min=noise).sqrt()
    tiny = values < noise
    return float(roots[tiny].sum()) + noise * float(roots[~tiny].reciprocal().norm())


def _residual(first: Tensor, second: Tensor) -> float:
    """The covariance part as the least squared distance between rotated factors: a sum of squares, exact near zero."""
    left, _, right = torch.linalg.svd(first @ second.T)
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
