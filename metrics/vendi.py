"""Vendi score (Friedman and Dieng 2023; orders q: Pasarkar and Dieng 2024): how many different samples there are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jaxtyping import Num

from evalsvc.metrics import factorizations
from evalsvc.metrics.arrays import as_matrix, block_rows, taken
from evalsvc.metrics.devices import device_of, staged
from evalsvc.metrics.influence import LEAST, METHOD, TOO_FEW
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

_NULL = 1e-10


@metric(
    Quantity(
        "vendi_score",
        Direction.HIGHER,
        unit="effective samples",
        low=1.0,
        target="reference",
        title="Vendi score",
        title_zh="Vendi 分数",
    ),
    version=1,
    error_version=2,
)
def vendi_score(x: Num[Array, "n d"], q: float | int = 1.0, groups: Groups | None = None) -> Score:
    """Exponential of the Renyi entropy of order ``q`` of the eigenvalues of K / n; higher is more diverse.

    Noise is more diverse than real data: the right value is that of as many real samples.

    K is the cosine similarity of the rows: n equal rows give 1, n orthonormal rows n, and min(n, d) is the most.
    ``q`` may be 1 (Shannon), 0 (the number of directions, eigenvalues above 1e-10 of the largest) and ``math.inf``
    (one over the largest eigenvalue); the larger it is, the less rare samples count. The smaller of the n x n and the
    d x d problem is solved, in float64.

    The standard error speaks of the expected score at this n: the influence function, corrected by halves
    (:mod:`evalsvc.metrics.influence`). Near the ceiling min(n, d) it is up to 1.5 times too large. It is ``None`` where
    the sample cannot resolve the spectrum (n < 20 or n < 4 times the score; for q < 1 also n < 4 d; for q = inf where
    the largest eigenvalue is not apart from the next), and for q = 0, which counts. ``groups`` has one label a row
    where rows of a label (draws of one prompt) are not independent.

    Raises :class:`MetricError` on a row of zeros (it has no direction), a negative ``q``, NaN or infinity.

    >>> round(vendi_score(np.eye(5)).value, 9), round(vendi_score(np.ones((5, 3)), q=2).value, 9)
    (5.0, 1.0)
    """
    matrix = as_matrix(x, "x")
    if not q >= 0:
        raise MetricError(f"vendi_score of order {q} does not exist; give q >= 0")
    _refuse_zero_rows(matrix)
    n, d = matrix.shape
    units = Units.of(n, groups)
    parts = [torch.from_numpy(half).to(matrix.device) for half in units.halves]
    if n <= d:
        rows = _units(staged(matrix, device_of(matrix), torch.float64))
        gram = rows @ rows.T
        parts = [part.to(gram.device) for part in parts]
        grams = [gram[part][:, part] for part in parts]
    else:
        grams = [_gram(matrix, part) for part in parts]
        gram = grams[0] + grams[1]
    values, vectors = _spectrum(gram / n)
    value = min(max(_effective_number(values, q), 1.0), float(len(values)))
    if reason := units.too_few or _no_stderr(matrix, value, q):
        return score("vendi_score", value, None, n=n, method=reason, units=units)
    of_halves = (_spectrum(each / len(part)) for each, part in zip(grams, parts, strict=True))
    spectra = [(*each, _weights(each[0], q)) for each in ((values, vectors), *of_halves)]
    if n <= d:
        whole, *within = (
            len(vectors) * vectors.square() @ (values * weights).to(vectors.device)
            for values, vectors, weights in spectra
        )
    else:
        forms = [(vectors * weights.to(vectors.device)) @ vectors.T for _, vectors, weights in spectra]
        whole, *within = _forms(matrix, parts, forms)
    variance, influence = units.estimate(whole.cpu().numpy(), [half.cpu().numpy() for half in within])
    error = math.sqrt(variance)
    if q == math.inf and len(values) > 1 and values[-1] - values[-2] < 3 * error * values[-1] ** 2:
        reason = "none: the largest eigenvalue is not apart from the next"
        return score("vendi_score", value, None, n=n, method=reason, units=units)
    return score("vendi_score", value, error, n=n, method=METHOD, influence=influence, units=units)


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
    zero = torch.cat([(part == 0).all(1) for part in torch.split(matrix, block_rows(matrix))]).nonzero()
    if len(zero):
        raise MetricError(f"row {int(zero[0, 0])} of x is zero and has no direction; drop it or use other features")


def _units(block: Tensor) -> Tensor:
    # Scaled first: the square of a tiny or huge number is no longer a float.
    scaled = block / block.abs().amax(1, keepdim=True)
    return scaled.div_(torch.linalg.vector_norm(scaled, dim=1, keepdim=True))


def _gram(matrix: Tensor, rows: Tensor) -> Tensor:
    d = matrix.shape[1]
    gram = torch.zeros((d, d), dtype=torch.float64, device=device_of(matrix))
    for piece in torch.split(rows, block_rows(matrix)):
        units = _units(taken(matrix, piece).double())
        gram.addmm_(units.T, units)
    return gram


def _spectrum(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, on the host, and eigenvectors of a positive matrix."""
    values, vectors = factorizations.eigh(matrix)
    return values.cpu().clamp_(min=0), vectors


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


def _weights(values: Tensor, q: float | int) -> Tensor:
    """How much the score gains with each eigenvalue."""
    present = values > _NULL * values[-1]
    weights = torch.zeros_like(values)
    if q == 1:
        weights[present] = -values[present].log()
    elif q == math.inf:
        weights[-1] = -1 / values[-1]
    else:
        power = values[present].pow(q - 1)
        weights[present] = q / (1 - q) * power / (values[present] * power).sum()
    return weights * _effective_number(values, q)


def _forms(matrix: Tensor, parts: list[Tensor], forms: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """``u' F u`` of all unit rows under the first form, and of each half's under its own."""
    found = []
    for part, form in zip(parts, forms[1:], strict=True):
        # Single precision is ample for a standard error.
        both = torch.cat([forms[0], form], 1).float()
        pieces = (_units(taken(matrix, piece).double()).float() for piece in torch.split(part, block_rows(matrix)))
        found.append(torch.cat([((u @ both).view(len(u), 2, -1) * u[:, None]).sum(2) for u in pieces]))
    first, second = found
    whole = torch.cat([first[:, 0], second[:, 0]])
    return whole[torch.cat(parts).argsort().to(whole.device)], first[:, 1], second[:, 1]
