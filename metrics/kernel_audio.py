"""Kernel audio distance (KAD, Chung et al. 2025): a kernel distance whose bandwidth is the reference's own scale."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Num

from evalsvc.metrics.arrays import as_matrix
from evalsvc.metrics.distances import sweep
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.kernel import kernel_distance
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.pairs import Plan, over_pairs
from evalsvc.metrics.points import Points, common_frame
from evalsvc.metrics.precomputed import Arrays, Precomputed, Values
from evalsvc.metrics.registry import Quantity, metric
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.units import Groups

if TYPE_CHECKING:
    from evalsvc.metrics.arrays import Array

_SCALE = 100.0
_HALF = 16
"""Bits of a float32 that one pass over the pairs decides."""

KERNEL_AUDIO_DISTANCE = Quantity(
    "kernel_audio_distance",
    Direction.LOWER,
    unit="100 squared kernel units",
    unbiased_in_n=True,
    title="Kernel audio distance (KAD)",
    title_zh="核音频距离（KAD）",
)


def median_distance(reference: Num[Array, "m d"]) -> float:
    """The median Euclidean distance of two rows, the lower one of an even number of pairs; by two passes over them.

    Raises :class:`MetricError` on fewer than two rows, NaN or infinity, and where half of all pairs are equal.

    >>> median_distance(np.array([[0.0], [1.0], [3.0]]))
    2.0
    """
    (points,) = common_frame(as_matrix(reference, "reference", 2), dtype=torch.float64)
    m = len(points)
    rank = (m * (m - 1) // 2 - 1) // 2 * 2  # each pair counts twice
    high, rank = _digit(points, rank, None)
    low, _ = _digit(points, rank, high)
    squared = float(np.array(high << _HALF | low, np.int32).view(np.float32))
    if squared <= 0:
        raise MetricError("reference: the median distance of two rows is 0, which cannot be the bandwidth of a kernel")
    return math.sqrt(squared) / points.scale


def _digit(points: Points, rank: int, prefix: int | None) -> tuple[int, int]:
    """The upper bits of the squared distance with a rank, or the lower bits among those with a ``prefix``.

    The rank is then that among the distances with these bits. Bits of floats that are not negative sort as they do.
    """
    counted = torch.zeros(2**_HALF + 1, dtype=torch.int64, device=points.device)
    for block in sweep(points, points, symmetric=True):
        bits = block.lower.clamp(min=0).float().flatten().view(torch.int32)
        digits = bits >> _HALF
        if prefix is not None:  # others are counted behind all digits
            digits = torch.where(digits == prefix, bits & (2**_HALF - 1), 2**_HALF)
        counted += torch.bincount(digits, minlength=len(counted)) * (1 if block.rows == block.columns else 2)
    counts = counted.cpu().numpy()
    before = counts.cumsum()
    digit = int(np.searchsorted(before, rank, side="right"))
    return digit, rank - int(before[digit] - counts[digit])


def _find(inputs: Values, options: Values) -> dict[str, np.ndarray]:
    return {"median": np.array([median_distance(inputs["reference"])])}


def _restore(arrays: Arrays, inputs: Values, options: Values) -> float:
    return float(arrays["median"][0])


REFERENCE_BANDWIDTH = Precomputed("bandwidth", ("reference",), lambda options: "median-distance", _find, _restore)


@metric(KERNEL_AUDIO_DISTANCE, version=1, precomputed=(REFERENCE_BANDWIDTH,), error_version=2)
@over_pairs
def kernel_audio_distance(
    generated: Num[Array, "n d"],
    reference: Num[Array, "m d"],
    bandwidth: float | None = None,
    groups: Groups | None = None,
) -> Plan[Score]:
    """KAD (Chung et al. 2025): 100 times the unbiased squared MMD; lower is better, 0 is equal, noise may be below 0.

    The kernel is Gaussian, ``exp(-|x - y|^2 / (2 b^2))``, and ``bandwidth`` b the median distance of two rows of the
    reference unless it is given, as the paper has it; the authors' ``kadtk`` passes its sets in the other order, so
    that its bandwidth is that of the evaluated set. Rows are audio embeddings, a sound or a window each; ``groups``
    has one label a row where windows of one sound are not independent.

    Errors, and when there are none, are those of :func:`~evalsvc.metrics.kernel.kernel_distance`; they hold the
    bandwidth fixed, which ``details`` has.

    >>> x = np.random.default_rng(0).standard_normal((500, 8))
    >>> [kernel_audio_distance(scale * (x + 1), scale * x).value > 10 for scale in (1e-6, 1.0, 1e6)]
    [True, True, True]
    """
    given = median_distance(reference) if bandwidth is None else bandwidth
    plan = kernel_distance.plan(generated, reference, subsets=None, kernel="rbf", sigma=given, groups=groups)
    return replace(plan, finish=lambda found: _scaled(plan.finish(found), given))


def _scaled(found: Score, bandwidth: float) -> Score:
    def times(number: float | None) -> float | None:
        return None if number is None else _SCALE * number

    def influence(of: Influence | str) -> Influence | str:
        return of.times(_SCALE) if isinstance(of, Influence) else of

    return replace(
        found,
        name=KERNEL_AUDIO_DISTANCE.name,
        unit=KERNEL_AUDIO_DISTANCE.unit,
        value=_SCALE * found.value,
        stderr=times(found.stderr),
        ci_low=times(found.ci_low),
        ci_high=times(found.ci_high),
        stderr_reference=times(found.stderr_reference),
        influence=influence(found.influence),
        reference=influence(found.reference),
        details={**found.details, "bandwidth": bandwidth},
    )
