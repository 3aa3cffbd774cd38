"""Frechet distance between two sets seen as normal laws (Heusel et al. 2017), with its standard error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Num

from evalsvc.metrics.arrays import as_matrix, same_width
from evalsvc.metrics.frechet_influence import Deletions, errors_of, law_of, law_of_sample
from evalsvc.metrics.influence import LEAST, TOO_FEW, Influence
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.moments import REFERENCE_MOMENTS, Moments
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import UNPAIRED, Direction, Score
from evalsvc.metrics.skewness import Noise, of_quadratic
from evalsvc.metrics.transport import Gaussian, Transport, covariance_part
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

_LINEAR = 8
_METHOD = "leave-one-out, second-order noise taken off"
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
    error_version=4,
    precomputed=(REFERENCE_MOMENTS,),
    full_rank=True,
)
def frechet_distance(
    generated: Num[Array, "n d"] | Moments,
    reference: Num[Array, "m d"] | Moments,
    groups: Groups | None = None,
    reference_moments: Moments | None = None,
) -> Score:
    """Frechet distance ``|mu - mu_r|^2 + tr(S + S_r - 2 (S S_r)^(1/2))``; 0 is equal, lower is better.

    Either side may be an array (read in blocks: a memory map stays on disk) or its :class:`Moments`. Covariances have
    ddof 1 and everything is float64. Where n < d, no d x d matrix of that side is built. ``reference_moments`` are
    those of the reference's rows, where they are known.

    The standard error speaks of the expected distance at this n against this fixed reference; two distances at
    different n are not comparable (see :func:`frechet_distance_infinity`). It comes from the distances without each
    sample, which one spectrum gives exactly (:mod:`evalsvc.metrics.root_trace`); also for n < d. Their variance V
    counts interactions of two samples twice. The squared deviation of the distance between equal laws with this
    spectrum is subtracted, and at most half of V. The error is ``None`` with :class:`Moments` alone or n < 20. The
    interval is as skewed as a quadratic form of the spectrum (:func:`evalsvc.metrics.skewness.frechet_noise`).
    ``groups`` has one label a row where rows of a label (draws of one prompt) are not independent.

    ``stderr_reference`` comes from the distances without each row of the reference; of 2,048 random ones where there
    are more. It is unknown where the reference is given as :class:`Moments`. The target is the expected distance at
    this n and this number m of reference rows: both bias the distance upwards.

    Raises :class:`MetricError` on less than two rows, unequal widths, NaN or infinity.

    >>> x = np.random.default_rng(0).standard_normal((1000, 4))
    >>> round(frechet_distance(x + np.array([1.0, 0, 0, 0]), x).value, 9)
    1.0
    """
    target = _target(reference, reference_moments)
    if isinstance(generated, Moments):
        return _score(Gaussian.of_moments(generated), target, None, _MOMENTS_ONLY)
    sample = as_matrix(generated, "generated", minimum=2)
    units = Units.of(len(sample), groups)
    if units.count < LEAST:
        return _score(Gaussian.of(sample, "generated"), target, None, TOO_FEW, units=units)
    law = law_of_sample(sample, units)
    _same_width(law, target)
    deletions = Deletions.of(sample, law, target)
    errors = errors_of(deletions, units, reference)
    stderr = math.sqrt(errors.variance)
    skewness = of_quadratic(errors.influence, stderr, errors.noise)
    method = _METHOD + errors.influence.remark + errors.remark
    return _score(law, target, stderr, method, deletions.transport, errors.influence, errors.reference, units, skewness)


@metric(
    Quantity(
        "frechet_distance_infinity",
        Direction.LOWER,
        unit="squared feature units",
        title="Fréchet distance at infinity",
        title_zh="无穷样本 Fréchet 距离",
    ),
    version=1,
    error_version=4,
    precomputed=(REFERENCE_MOMENTS,),
    full_rank=True,
)
def frechet_distance_infinity(
    generated: Num[Array, "n d"],
    reference: Num[Array, "m d"] | Moments,
    seed: int = 2020,
    groups: Groups | None = None,
    reference_moments: Moments | None = None,
) -> Score:
    """Frechet distance extrapolated to infinitely many samples (Chong and Forsyth 2020); lower is better, 0 is equal.

    The distance at n is too large by about b / n. The sample is cut at random into 1, 2, 3, 4 and 5 equal chunks; the
    distances of these 15 chunks are fitted by ``a + b / n``, and ``a`` is the value. Every size uses every sample, so
    the extrapolation adds no noise to first order. Without a bias upwards the value may fall below 0 by chance.

    The standard error and the interval speak of the population's distance to this fixed reference,
    ``stderr_reference`` of the change by another reference of as many rows (to first order), as far as the bias
    is linear in 1 / n: ``details`` has the ``slope`` b and the ``r2`` of the fit. Where the smallest chunk has under 8
    rows a feature it is not (equal laws: a quarter of a standard error at 7.5 rows, more than one at 1.5): they then
    speak of the expectation at this n, and ``stderr_method`` says so.
    The chunks' weights multiply the second-order noise by four, so that two shares of it are added to the V of
    :func:`frechet_distance`. The error is ``None`` where ``groups`` (one label a row) name rows that are dependent:
    the chunks break them up, so that the bias is not linear in 1 / n.

    Raises :class:`MetricError` on less than 100 rows (20 in the smallest chunk), unequal widths, NaN or infinity.

    >>> x, y = (np.random.default_rng(seed).standard_normal((2000, 8)) for seed in (1, 2))
    >>> found = frechet_distance_infinity(x + 1, Moments(10**9, np.zeros(8), np.eye(8)))
    >>> found.ci_low < 8 < found.ci_high, found.details["slope"] > 0
    (True, True)
    """
    target = _target(reference, reference_moments)
    sample = as_matrix(generated, "generated", minimum=5 * LEAST)
    units = Units.of(len(sample))
    law = law_of_sample(sample, units)
    _same_width(law, target)
    value, details = _extrapolated(sample, law, target, seed)
    errors = errors_of(Deletions.of(sample, law, target), units, reference)
    stderr, noise = math.sqrt(errors.first + 2 * errors.second), errors.noise
    # The chunks' weights multiply the noise's second cumulant by 4.1 and its third by 0.2, and leave the signal alone.
    skewness = of_quadratic(errors.influence, stderr, Noise(2 * noise.deviation, 0.0, noise.bend))
    clustered = Units.of(len(sample), groups).clustered
    method = f"leave-one-out, second-order noise counted four times{errors.influence.remark}{errors.remark}"
    if len(sample) < 5 * _LINEAR * sample.shape[1]:
        method += f"; of its expectation at this n, as chunks have under {_LINEAR} rows a feature"
    return score(
        "frechet_distance_infinity",
        value,
        None if clustered else stderr,
        n=law.n,
        method="none: chunks break up the groups" if clustered else method,
        details=details,
        reference=errors.reference,
        skewness=skewness,
    )


def _extrapolated(sample: Tensor, law: Gaussian, target: Gaussian, seed: int) -> tuple[float, dict[str, float]]:
    """The distance at infinitely many samples by the fit to those of chunks, and the fit's slope and r2."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(sample))).to(sample.device)
    inverse_sizes, distances = [], []
    for count in range(1, 6):
        for chunk in range(count):
            part = law if count == 1 else law_of(sample, order[chunk::count])
            inverse_sizes.append(1 / part.n)
            distances.append(sum(_parts(part, target)))
    slope, value = np.polyfit(inverse_sizes, distances, 1)
    left = np.var(np.array(distances) - value - slope * np.array(inverse_sizes))
    spread = np.var(distances)
    return float(value), {"slope": float(slope), "r2": float(1 - left / spread) if spread > 0 else 1.0}


def _score(
    law: Gaussian,
    target: Gaussian,
    stderr: float | None,
    method: str,
    transport: Transport | None = None,
    influence: Influence | str = UNPAIRED,
    reference: Influence | str = _MOMENTS_ONLY,
    units: Units | None = None,
    skewness: float = 0.0,
) -> Score:
    _same_width(law, target)
    mean_part, covariance = _parts(law, target, transport)
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
        reference=reference if stderr is not None else method,
        skewness=skewness,
    )


def _target(reference: Any, moments: Moments | None) -> Gaussian:
    return Gaussian.of(reference, "reference") if moments is None else Gaussian.of_moments(moments)


def _same_width(law: Gaussian, target: Gaussian) -> None:
    same_width(law.mean, target.mean)


def _parts(law: Gaussian, target: Gaussian, transport: Transport | None = None) -> tuple[float, float]:
    mean_part = float((law.mean - target.mean).square().sum())
    return mean_part, covariance_part(law, target, mean_part, transport.values if transport else None)
