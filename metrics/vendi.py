"""Vendi score (Friedman and Dieng 2023; orders q: Pasarkar and Dieng 2024): how many different samples there are."""

from __future__ import annotations

import math

import torch
from jaxtyping import Num
from torch import Tensor

from metrics.arrays import Array, as_matrix, blocks
from metrics.influence import LEAST, METHOD, TOO_FEW, halves, stderr
from metrics.registry import Quantity, metric, score
from metrics.score import Direction, MetricError, Score

_NULL = 1e-10


@metric(Quantity("vendi_score", Direction.HIGHER, unit="effective samples", low=1.0), version=1)
def vendi_score(x: Num[Array, "n d"], q: float | int = 1.0) -> Score:
    """Exponential of the Renyi entropy of order ``q`` of the eigenvalues of K / n; higher is more diverse.

    K is the cosine similarity of the rows: n equal rows give 1, n orthonormal rows n, and min(n, d) is the most.
    ``q`` may be 1 (Shannon), 0 (the number of directions, eigenvalues above 1e-10 of the largest) and ``math.inf``
    (one over the largest eigenvalue); the larger it is, the less rare samples count. The smaller of the n x n and the
    d x d problem is solved, in float64.

    The standard error speaks of the expected score at this n: the influence function, corrected by halves
    (:mod:`metrics.influence`). Near the ceiling min(n, d) it is up to 1.5 times too large. There is none where the
    sample cannot resolve the spectrum (n < 20 or n < 4 times the score; for q < 1 also n < 4 d; for q = inf where the
    largest eigenvalue is not apart from the next), and for q = 0, which counts.

    Raises :class:`MetricError` on a row of zeros (it has no direction), a negative ``q``, NaN or infinity.

    >>> round(vendi_score(np.eye(5)).value, 9), round(vendi_score(np.ones((5, 3)), q=2).value, 9)
    (5.0, 1.0)
    """
    matrix = as_matrix(x, "x")
    if not q >= 0:
        raise MetricError(f"vendi_score of order {q} does not exist; give q >= 0")
    _refuse_zero_rows(matrix)
    n = len(matrix)
    values, vectors = _spectrum(matrix)
    value = min(max(_effective_number(values, q), 1.0), float(len(values)))
    if reason := _no_stderr(matrix, value, q):
        return score("vendi_score", value, None, n=n, method=reason)
    whole = float(_influence(matrix, values, vectors, q).var())
    parts = [matrix[half.to(matrix.device)] for half in halves(n)]
    within = sum(float(_influence(part, *_spectrum(part), q).var()) for part in parts) / 2
    error = stderr(whole, within, n)
    if q == math.inf and len(values) > 1 and values[-1] - values[-2] < 3 * error * values[-1] ** 2:
        return score("vendi_score", value, None, n=n, method="none: the largest eigenvalue is not apart from the next")
    return score("vendi_score", value, error, n=n, method=METHOD)


def _no_stderr(matrix: Tensor, value: float, q: float | int) -> str | None:
    n, d = matrix.shape
    if q == 0:
        return "none: the number of directions is a count"
    if n < LEAST:
        return TOO_FEW
    if n < 4 * value or (q < 1 and n < 4 * d):
        return "none: the sample is too small for its spectrum"
    return None


def _refuse_zero_rows(matrix: Tensor) -> None:
    zero = (matrix == 0).all(1).nonzero()
    if len(zero):
        raise MetricError(f"row {int(zero[0, 0])} of x is zero and has no direction; drop it or use other features")


def _units(block: Tensor) -> Tensor:
    # Scaled first: the square of a tiny or huge number is no longer a float.
    scaled = block / block.abs().amax(1, keepdim=True)
    return scaled.div_(torch.linalg.vector_norm(scaled, dim=1, keepdim=True))


def _spectrum(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, not below zero, and eigenvectors of K / n, or of the d x d matrix with the same eigenvalues."""
    n, d = matrix.shape
    if n <= d:
        units = _units(matrix.double())
        gram = units @ units.T
    else:
        gram = torch.zeros((d, d), dtype=torch.float64, device=matrix.device)
        for block in blocks(matrix):
            units = _units(block)
            gram.addmm_(units.T, units)
    values, vectors = torch.linalg.eigh(gram / n)
    return values.clamp(min=0), vectors


def _effective_number(values: Tensor, q: float | int) -> float:
    # Below q = 1 rounding noise would count: its roots are many.
    rounding = len(values) * torch.finfo(values.dtype).eps
    present = values[values > (rounding if q else _NULL) * values[-1]]
    if q == 1:
        return math.exp(-float((present * present.log()).sum()))
    if q == math.inf:
        return float(1 / present[-1])
    if q == 0:
        return float(len(present))
    return math.exp(float(present.pow(q).sum().log()) / (1 - q))


def _influence(matrix: Tensor, values: Tensor, vectors: Tensor, q: float | int) -> Tensor:
    """By how much the score moves with the weight of each row, but for a constant."""
    effective = _effective_number(values, q)
    present = values > _NULL * values[-1]
    scale = torch.zeros_like(values)
    if q == 1:
        scale[present] = -values[present].log()
    elif q == math.inf:
        scale[-1] = -1 / values[-1]
    else:
        power = values[present].pow(q - 1)
        scale[present] = q / (1 - q) * power / (values[present] * power).sum()
    if len(matrix) <= matrix.shape[1]:
        forms: Tensor = vectors.square() @ (values * scale)
        return forms.mul_(effective * len(matrix))
    form = (vectors * (scale * effective)) @ vectors.T
    return torch.cat([(units @ form).mul_(units).sum(1) for units in map(_units, blocks(matrix))])
