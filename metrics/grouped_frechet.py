"""Frechet distance of each group of rows, such as the windows of one song, to the whole reference."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Num

from evalsvc.metrics.arrays import as_matrix, same_width
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.moments import REFERENCE_MOMENTS, Moments
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.transport import Gaussian, covariance_part
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from evalsvc.metrics.arrays import Array


@metric(
    Quantity(
        "grouped_frechet_distance",
        Direction.LOWER,
        unit="squared feature units",
        low=0.0,
        title="Fréchet distance per group",
        title_zh="分组 Fréchet 距离",
    ),
    version=1,
    precomputed=(REFERENCE_MOMENTS,),
)
def grouped_frechet_distance(
    generated: Num[Array, "n d"],
    reference: Num[Array, "m d"] | Moments,
    groups: Groups | None = None,
    reference_moments: Moments | None = None,
) -> Score:
    """Mean over groups of the Frechet distance between a group's rows and the whole reference; lower is better.

    With the windows of a song as a group this is the per-song FAD of Gui et al. 2023, whose values ``fadtk`` lists. A
    group has far fewer rows than dimensions and one kind of content: the distance is large for real songs too, so that
    songs, and models with as many windows a song, are compared with each other. ``details`` has the ``lowest``,
    ``median`` and ``highest`` of the groups. ``groups`` has one label a row; the standard error is that of a mean over
    groups, ``None`` under 20.

    Raises :class:`MetricError` without groups of at least two rows, on unequal widths, NaN or infinity.

    >>> x = np.random.default_rng(0).standard_normal((400, 4))
    >>> windows = x.reshape(40, 10, 4) + np.arange(40)[:, None, None]
    >>> grouped_frechet_distance(windows.reshape(-1, 4), x, np.arange(400) // 10).details["median"] > 1000
    True
    """
    sample = as_matrix(generated, "generated", minimum=2)
    target = (
        Gaussian.of(reference, "reference") if reference_moments is None else Gaussian.of_moments(reference_moments)
    )
    units = Units.of(len(sample), groups)
    if units.owner is None or np.bincount(units.owner).min() < 2:
        raise MetricError("a distance per group needs groups of at least two rows each; use frechet_distance instead")
    same_width(sample, target.mean)
    order = torch.from_numpy(np.argsort(units.owner, kind="stable")).to(sample.device)
    distances = []
    for rows in torch.split(order, np.bincount(units.owner).tolist()):
        law = Gaussian.of(sample[rows], "generated")
        mean_part = float((law.mean - target.mean).square().sum())
        distances.append(mean_part + covariance_part(law, target, mean_part))
    found = np.array(distances)
    spread = found - found.mean()
    return score(
        "grouped_frechet_distance",
        float(found.mean()),
        math.sqrt(spread @ spread / max(1, len(found) - 1) / len(found)),
        n=len(sample),
        method="mean",
        details={"lowest": found.min(), "median": float(np.median(found)), "highest": found.max()},
        influence=units.influence(spread, None),
        units=units,
        reference="none: the distances of all groups share the reference's error, which is not found",
    )
