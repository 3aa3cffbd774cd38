"""Memorization-informed Frechet distance: a distance to the reference, raised where samples are copies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float64, Num

from evalsvc.metrics import registry
from evalsvc.metrics.arrays import as_matrix, block_rows, same_width
from evalsvc.metrics.devices import staged
from evalsvc.metrics.frechet import frechet_distance
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.neighbors import knn
from evalsvc.metrics.points import common_frame
from evalsvc.metrics.registry import Quantity, metric
from evalsvc.metrics.score import Direction, Score
from evalsvc.metrics.skewness import combined
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

_MEMORIZED = 0.1
_LEAST_DISTANCE = 1e-14


@metric(
    Quantity(
        "memorization_informed_frechet",
        Direction.LOWER,
        "squared feature units",
        0.0,
        title="Memorization-informed Fréchet distance",
        title_zh="记忆修正 Fréchet 距离",
    ),
    version=1,
    error_version=4,
    full_rank=True,
)
def memorization_informed_frechet(
    generated: Num[Array, "n d"],
    reference: Num[Array, "m d"],
    train: Num[Array, "t d"],
    groups: Groups | None = None,
) -> Score:
    """MIFID (Bai et al. 2021): the Frechet distance to ``reference``, raised where samples are copies of ``train``.

    It is divided by the mean over generated samples of the cosine distance ``1 - |cos|`` to the nearest training
    sample; from 0.1 on nothing counts as copied and the divisor is 1. At least 0, lower is better. ``details`` holds
    ``cosine_distance``, ``penalty`` (1 / divisor) and ``frechet_distance``.

    The mean is over generated samples, as the paper has it: how near each is to what was trained on. torchmetrics
    averages over real samples the distance to the nearest generated one, which stays large where a model copies few
    samples again and again; the two numbers are not comparable.

    The standard error treats distance and divisor as independent, and ignores the step at 0.1; ``stderr_reference`` is
    that of the distance. Raises :class:`MetricError` as :func:`frechet_distance` does.

    >>> rng = np.random.default_rng(0)
    >>> train, new, test = (rng.standard_normal((200, 16)) for _ in range(3))
    >>> memorization_informed_frechet(new, test, train).details["penalty"]
    1.0
    >>> memorization_informed_frechet(train + 0.01 * new, test, train).details["penalty"] > 1000
    True
    """
    sample, points = as_matrix(generated, "generated", minimum=2), as_matrix(train, "train")
    same_width(sample, points, ("generated", "train"))
    units = Units.of(len(sample), groups)
    distance = frechet_distance(sample, reference, groups)
    cosine = _cosine_distances(sample, points)
    mean = float(cosine.mean())
    copied = mean < _MEMORIZED
    penalty = 1 / max(mean, _LEAST_DISTANCE) if copied else 1.0
    stderr, influence, of_reference = distance.stderr, distance.influence, distance.reference
    skewness = distance.skewness
    if stderr is not None and copied:
        variance, pull = units.estimate(cosine.cpu().numpy())
        slope = distance.value * penalty
        of_divisor = (penalty * slope, math.sqrt(variance), 0.0)
        stderr, skewness = combined([(penalty, stderr, skewness), of_divisor])
        if isinstance(influence, Influence) and influence.half is not None:
            # Two samples do not interact in the mean cosine.
            alone = pull.interacting(np.zeros(len(influence.half) - influence.n))
            influence = influence.minus(alone, slope).times(penalty)
    return registry.score(
        "memorization_informed_frechet",
        distance.value * penalty,
        stderr,
        n=len(sample),
        method=distance.stderr_method,
        details={"cosine_distance": mean, "penalty": penalty, "frechet_distance": distance.value},
        influence=influence,
        units=units,
        reference=of_reference.times(penalty) if isinstance(of_reference, Influence) else of_reference,
        skewness=skewness,
    )


def _cosine_distances(sample: Float[Tensor, "n d"], train: Float[Tensor, "m d"]) -> Float64[Tensor, " n"]:
    """``1 - |cos|`` to the nearest training row: half the squared distance of unit vectors, up to their sign.

    A row of zeros has no direction: it is at distance 1 from all.
    """
    directions, lengths = _directions(sample)
    originals, train_lengths = _directions(train)
    originals = originals[train_lengths > 0]
    if not len(originals):
        return torch.ones(len(sample), dtype=torch.float64)
    x, y, opposite = common_frame(directions, originals, -originals)
    squared = torch.minimum(knn(x, y, 1)[0], knn(x, opposite, 1)[0])[:, 0]
    return torch.where(staged(lengths, squared.device) > 0, squared / (2 * x.scale**2), 1.0)


def _directions(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float64[Tensor, " n"]]:
    """Rows of length 1 where ``x`` is, and the lengths that they had."""
    parts = torch.split(x, block_rows(x))
    lengths = [part.double().norm(dim=1) for part in parts]
    divisors = (torch.where(each > 0, each, 1.0)[:, None] for each in lengths)
    directions = [(part / divisor).to(x.dtype) for part, divisor in zip(parts, divisors, strict=True)]
    return torch.cat(directions), torch.cat(lengths)
