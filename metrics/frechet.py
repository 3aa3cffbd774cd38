"""Frechet distance between two sets seen as normal laws (Heusel et al. 2017), with its standard error."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Num

from evalsvc.metrics.arrays import as_matrix, same_width
from evalsvc.metrics.influence import LEAST, METHOD, TOO_FEW, Influence
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.moments import REFERENCE_MOMENTS, Moments
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import UNPAIRED, Direction, Score
from evalsvc.metrics.transport import Gaussian, covariance_part, transport_root, transported_squares
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

_PIECE = 4096
_MOMENTS_ONLY = "none: moments do not hold single samples; give the generated array"


@metric(
    Quantity(
        "frechet_distance",
        Direction.LOWER,
        unit="squared feature units",
        low=0.0,
        title="Fréchet distance",
        title_zh="Fréchet 距离",
        beside=("recall", "vendi_score", "samples_per_second"),
    ),
    version=1,
    precomputed=(REFERENCE_MOMENTS,),
    full_rank=True,
)
def frechet_distance(
    generated: Num[Array, "n d"] | Moments,
    reference: Num[Array, "m d"] | Moments,
    groups: Groups | None = None,
) -> Score:
    """Frechet distance ``|mu - mu_r|^2 + tr(S + S_r - 2 (S S_r)^(1/2))``; 0 is equal, lower is better.

    Either side may be an array (read in blocks: a memory map stays on disk) or its :class:`Moments`. Covariances have
    ddof 1 and everything is float64. Where n < d, no d x d matrix of that side is built.

    The standard error speaks of the expected distance at this n against this fixed reference; two distances at
    different n are not comparable (see :func:`frechet_distance_infinity`). It comes from the influence function
    ``psi(x) = 2 (mu - mu_r)'(x - mu) + (x - mu)'(I - T)(x - mu)``, T the optimal transport to the reference. Its
    variance V is corrected by that within halves, V' (:mod:`evalsvc.metrics.influence`); also for n < d. It is
    ``None`` with :class:`Moments` alone or n < 20. ``groups`` has one label a row where rows of a label (draws of one
    prompt) are not independent.

    Raises :class:`MetricError` on less than two rows, unequal widths, NaN or infinity.

    >>> x = np.random.default_rng(0).standard_normal((1000, 4))
    >>> round(frechet_distance(x + np.array([1.0, 0, 0, 0]), x).value, 9)
    1.0
    """
    target = Gaussian.of(reference, "reference")
    if isinstance(generated, Moments):
        return _score(Gaussian.of_moments(generated), target, None, _MOMENTS_ONLY)
    sample = as_matrix(generated, "generated", minimum=2)
    units = Units.of(len(sample), groups)
    if units.count < LEAST:
        return _score(Gaussian.of(sample, "generated"), target, None, TOO_FEW, units=units)
    law, parts = _law_and_halves(sample, units)
    _same_width(law, target)
    inner = _inner(law, target)
    psi, *within = _influences(sample, law, parts, target, inner, units)
    variance, influence = units.estimate(psi.cpu().numpy(), [part.cpu().numpy() for part in within])
    return _score(law, target, math.sqrt(variance), METHOD, inner, influence, units)


@metric(
    Quantity(
        "frechet_distance_infinity",
        Direction.LOWER,
        unit="squared feature units",
        title="Fréchet distance at infinity",
        title_zh="无穷样本 Fréchet 距离",
    ),
    version=1,
    precomputed=(REFERENCE_MOMENTS,),
    full_rank=True,
)
def frechet_distance_infinity(
    generated: Num[Array, "n d"],
    reference: Num[Array, "m d"] | Moments,
    seed: int = 2020,
    groups: Groups | None = None,
) -> Score:
    """Frechet distance extrapolated to infinitely many samples (Chong and Forsyth 2020); lower is better, 0 is equal.

    The distance at n is too large by about b / n. The sample is cut at random into 1, 2, 3, 4 and 5 equal chunks; the
    distances of these 15 chunks are fitted by ``a + b / n``, and ``a`` is the value. Every size uses every sample, so
    the extrapolation adds no noise to first order. Without a bias upwards the value may fall below 0 by chance.

    The standard error and the interval speak of the population's distance to this fixed reference, as far as the bias
    is linear in 1 / n: ``details`` has the ``slope`` b and the ``r2`` of the fit.
    In the terms of :func:`frechet_distance` the variance is ``max(V, V') / n``: the chunks' weights multiply the
    second-order noise by four. It is ``None`` where ``groups`` (one label a row) name rows that are not independent:
    the chunks break them up, so that the bias is not linear in 1 / n.

    Raises :class:`MetricError` on less than 100 rows (20 in the smallest chunk), unequal widths, NaN or infinity.

    >>> x, y = (np.random.default_rng(seed).standard_normal((2000, 8)) for seed in (1, 2))
    >>> found = frechet_distance_infinity(x + 1, Moments(10**9, np.zeros(8), np.eye(8)))
    >>> found.ci_low < 8 < found.ci_high, found.details["slope"] > 0
    (True, True)
    """
    target = Gaussian.of(reference, "reference")
    sample = as_matrix(generated, "generated", minimum=5 * LEAST)
    units = Units.of(len(sample))
    law, parts = _law_and_halves(sample, units)
    _same_width(law, target)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(sample)))
    inverse_sizes, distances = [], []
    for count in range(1, 6):
        for chunk in range(count):
            part = law if count == 1 else _law_of(sample, order[chunk::count])
            inverse_sizes.append(1 / part.n)
            distances.append(sum(_parts(part, target)))
    slope, value = np.polyfit(inverse_sizes, distances, 1)
    left = np.var(np.array(distances) - value - slope * np.array(inverse_sizes))
    spread = np.var(distances)
    psi, *within = _influences(sample, law, parts, target, _inner(law, target), units)
    whole, half = float(psi.var()), sum(float(part.var()) for part in within) / 2
    clustered = Units.of(len(sample), groups).clustered
    method = "influence function, second-order noise from halves"
    return score(
        "frechet_distance_infinity",
        float(value),
        None if clustered else (max(whole, half) / law.n) ** 0.5,
        n=law.n,
        method="none: chunks break up the groups" if clustered else method,
        details={"slope": float(slope), "r2": float(1 - left / spread) if spread > 0 else 1.0},
    )


def _score(
    law: Gaussian,
    target: Gaussian,
    stderr: float | None,
    method: str,
    inner: Tensor | None = None,
    influence: Influence | str = UNPAIRED,
    units: Units | None = None,
) -> Score:
    _same_width(law, target)
    mean_part, covariance = _parts(law, target, inner)
    details = {"mean_part": mean_part, "covariance_part": covariance, "n_reference": float(target.n)}
    return score(
        "frechet_distance",
        mean_part + covariance,
        stderr,
        n=law.n,
        method=method,
        details=details,
        influence=influence,
        units=units,
    )


def _same_width(law: Gaussian, target: Gaussian) -> None:
    same_width(law.mean, target.mean)


def _parts(law: Gaussian, target: Gaussian, inner: Tensor | None = None) -> tuple[float, float]:
    mean_part = float((law.mean - target.mean).square().sum())
    return mean_part, covariance_part(law, target, mean_part, inner)


def _law_and_halves(sample: Tensor, units: Units) -> tuple[Gaussian, list[tuple[Gaussian, Tensor]]]:
    """The law of the sample, and its two halves with their rows; few rows hold their halves already."""
    n, d = sample.shape
    if n < d:
        return Gaussian.of_rows(sample), []
    indices = [torch.from_numpy(half) for half in units.halves]
    if min(map(len, indices)) < d:
        return Gaussian.of_moments(Moments.of(sample)), [(_law_of(sample, index), index) for index in indices]
    first, second = (Moments.of_blocks(_pieces(sample, index)) for index in indices)
    parts = [(Gaussian.of_moments(half), index) for half, index in zip((first, second), indices, strict=True)]
    return Gaussian.of_moments(copy.copy(first).merge_state(second)), parts


def _law_of(sample: Tensor, index: Tensor) -> Gaussian:
    if len(index) < sample.shape[1]:
        return Gaussian.of_rows(sample[index])
    return Gaussian.of_moments(Moments.of_blocks(_pieces(sample, index.sort().values)))


def _pieces(sample: Tensor, index: Tensor) -> Iterator[Tensor]:
    for piece in torch.split(index, _PIECE):
        yield sample[piece.to(sample.device)]


def _inner(law: Gaussian, target: Gaussian) -> Tensor:
    """The product of the two covariances that the distance and the influence of every row are computed from."""
    return law.within(target.factor) if law.rows is None else target.within(law.rows)


def _influences(
    sample: Tensor, law: Gaussian, parts: list[tuple[Gaussian, Tensor]], target: Gaussian, inner: Tensor, units: Units
) -> list[Tensor]:
    """psi of every row, and of the rows of each half under the half's own law."""
    if law.rows is None:
        psis = [_psi_of_many(sample, torch.arange(law.n), law, target, inner)]
        psis += [_psi(sample, index, part, target) for part, index in parts]
    else:
        psis = [_psi_of_few(law.rows, inner, law.mean - target.mean, law.n)]
        psis += [_psi_of_half(law, inner, index, target) for index in map(torch.from_numpy, units.halves)]
    return psis


def _psi(sample: Tensor, index: Tensor, law: Gaussian, target: Gaussian) -> Tensor:
    """The influence of each row in ``index`` on the distance of their ``law`` to the target."""
    if law.rows is None:
        return _psi_of_many(sample, index, law, target, law.within(target.factor))
    return _psi_of_few(law.rows, target.within(law.rows.float()), law.mean - target.mean, law.n)


def _psi_of_many(sample: Tensor, index: Tensor, law: Gaussian, target: Gaussian, inner: Tensor) -> Tensor:
    """The same with a law that knows its moments alone, by that law within the target's factor."""
    pull = 2 * (law.mean - target.mean)
    root = transport_root(law, target, inner)
    psi = []
    for piece in _pieces(sample, index):
        centered = piece.to(torch.float64) - law.mean
        psi.append(centered @ pull + centered.square().sum(1) - (centered.float() @ root).square_().sum(1))
    return torch.cat(psi)


def _psi_of_few(rows: Tensor, gram: Tensor, gap: Tensor, n: int) -> Tensor:
    """The same for few rows, centered and divided by ``(n - 1)^(1/2)``, with the target within them."""
    psi: Tensor = (rows @ gap).mul_(2 * (n - 1) ** 0.5) + rows.square().sum(1).mul_(n - 1)
    return psi.sub_(transported_squares(gram).mul_(n - 1))


def _psi_of_half(law: Gaussian, gram: Tensor, index: Tensor, target: Gaussian) -> Tensor:
    """The same for the rows in ``index`` under their own law, whose products are found in those of the whole."""
    assert law.rows is not None
    rows, gram = law.rows[index], gram[index][:, index]
    scale = ((law.n - 1) / (len(index) - 1)) ** 0.5
    center = rows.mean(0)
    gram = (gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()) * scale**2
    gap = law.mean - target.mean + center * (law.n - 1) ** 0.5
    return _psi_of_few((rows - center) * scale, gram, gap, len(index))
