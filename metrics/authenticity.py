"""Authenticity: the share of generated samples that are not noisy copies, beside that of held-out samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Num

from evalsvc.metrics.arrays import as_matrix, same_width
from evalsvc.metrics.balls import neighbor_radii
from evalsvc.metrics.devices import on_host
from evalsvc.metrics.distances import Block
from evalsvc.metrics.influence import ABOUT_TRAINING
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.neighbors import Nearest, knn
from evalsvc.metrics.pairs import Plan, Visitor, measure, over_pairs
from evalsvc.metrics.points import Points
from evalsvc.metrics.precomputed import Precomputed, Values
from evalsvc.metrics.proportions import binomial_variance, mean_of_flags
from evalsvc.metrics.registry import Quantity, metric
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array


@dataclass(frozen=True)
class Training:
    """Precomputed facts about a training set and its held-out control that authenticity needs.

    ``squared`` holds the exact squared distance of each training sample to the nearest other one, ``authentic`` which
    held-out samples, if any, are authentic.
    """

    squared: Float64[np.ndarray, " m"]
    authentic: Bool[np.ndarray, " h"]


def training_spacing(train: Num[Array, "m d"], heldout: Num[Array, "h d"] | None = None) -> Training:
    """Facts about ``train`` (m, d) that do not depend on generated samples, computed once: m^2 / 2 distances.

    Raises :class:`MetricError` on fewer than 2 rows of ``train``, unequal widths, NaN or infinity.
    """
    matrix = as_matrix(train, "train", minimum=2)
    training = Training(neighbor_radii(matrix, k=1).squared, np.empty(0, bool))
    return training if heldout is None else replace(training, authentic=_control(heldout, matrix, training))


def _find_training(inputs: Values, options: Values) -> dict[str, np.ndarray]:
    training = training_spacing(inputs["train"], inputs.get("heldout"))
    return {"squared": training.squared, "authentic": training.authentic}


TRAINING = Precomputed(
    argument="training",
    of=("train", "heldout"),
    key=lambda options: "spacing",
    find=_find_training,
    restore=lambda arrays, inputs, options: Training(**arrays),
    # All pairs of a far larger training set cost more than those of its few samples that are nearest neighbors.
    is_worthwhile=lambda inputs: len(inputs["train"]) <= 2 * len(inputs["generated"]),
)


@metric(
    Quantity(
        "authenticity",
        Direction.HIGHER,
        "share",
        0.0,
        1.0,
        unbiased_in_n=True,
        title="Authenticity",
        title_zh="真实性",
        beside=("frechet_distance",),
    ),
    version=1,
    precomputed=(TRAINING,),
)
@over_pairs
def authenticity(
    generated: Num[Array, "n d"],
    train: Num[Array, "m d"],
    heldout: Num[Array, "h d"] | None = None,
    training: Training | None = None,
    groups: Groups | None = None,
) -> Plan[Score]:
    """AuthPct (Alaa et al. 2022) as a share in [0, 1]: generated samples that are not noisy copies; higher is better.

    A sample is authentic where it is farther from its nearest training sample than that one is from its own nearest
    other training sample. Even new real data are not all authentic: with ``heldout`` given, ``details`` holds their
    share as ``heldout`` and its error as ``heldout_stderr``, and a model is judged against that. ``training`` is the
    result of :func:`training_spacing` for these two sets.

    The standard error is for redrawn samples against this training set. Raises :class:`MetricError` on fewer
    than 2 rows of ``train``, unequal widths, NaN or infinity, and where ``training`` is of other sets.

    >>> authenticity(np.array([[0.1], [9.0]]), np.array([[0.0], [5.0], [5.2]])).value
    0.5
    """
    points, sample = as_matrix(train, "train", minimum=2), as_matrix(generated, "generated")
    same_width(sample, points, ("generated", "train"))
    units = Units.of(len(sample), groups)
    given = len(points), 0 if heldout is None else len(heldout)
    if training is not None and (known := (len(training.squared), len(training.authentic))) != given:
        raise MetricError(
            f"training is of {known[0]} training and {known[1]} held-out samples, and there are {given[0]} and "
            f"{given[1]}: compute it again with training_spacing(train, heldout)"
        )

    def scored(authentic: Bool[Tensor, " n"]) -> Score:
        details = {"n_train": float(len(points))}
        if heldout is not None:
            control = _control(heldout, points, training)
            share = float(control.mean())
            details |= {"heldout": share, "heldout_stderr": math.sqrt(binomial_variance(share, len(control)))}
        return mean_of_flags("authenticity", authentic.cpu().numpy(), units, details, ABOUT_TRAINING)

    return Plan(sample, points, partial(_Authentic, training=training), scored)


class _Authentic(Visitor["Bool[Tensor, ' n']"]):
    """Which generated samples are authentic."""

    seeks = Nearest.seeks

    def __init__(self, train: Points, generated: Points, training: Training | None) -> None:
        self.train, self.nearest, self.training = train, Nearest(train, generated, 1), training

    def across(self, block: Block) -> None:
        self.nearest.across(block)

    def result(self) -> Bool[Tensor, " n"]:
        distance, nearest = (column[:, 0] for column in self.nearest.exactly())
        if self.training is not None:
            spacing = torch.as_tensor(self.training.squared, device=distance.device) * self.train.scale**2
            return distance > spacing[nearest]
        originals, place = torch.unique(nearest, return_inverse=True)
        return distance > knn(self.train.take(originals), self.train, 1, own=originals)[0][place, 0]


def _control(heldout: Array, train: Tensor, training: Training | None) -> Bool[np.ndarray, " h"]:
    """Which held-out samples are authentic."""
    if training is not None and len(training.authentic):
        return on_host(training.authentic)
    control = as_matrix(heldout, "heldout")
    same_width(control, train, ("heldout", "train"))
    (flags,) = measure([Plan(control, train, partial(_Authentic, training=training))])
    found: Bool[np.ndarray, " h"] = flags.cpu().numpy()
    return found
