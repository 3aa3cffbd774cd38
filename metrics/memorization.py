"""Is it new, or copied from the training set? A nearest-neighbor distance only speaks beside its held-out control."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float64, Num

from evalsvc.metrics import registry
from evalsvc.metrics.arrays import as_matrix, blocks, same_width
from evalsvc.metrics.cells import cells_of, kmeans
from evalsvc.metrics.distances import Block, Points, common_frame
from evalsvc.metrics.frechet import frechet_distance
from evalsvc.metrics.influence import METHOD, Influence
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.neighbors import Nearest, knn
from evalsvc.metrics.pairs import Plan, Visitor, measure, over_pairs
from evalsvc.metrics.precision_recall import neighbor_radii
from evalsvc.metrics.precomputed import Precomputed, Values
from evalsvc.metrics.proportions import binomial_variance, mean_of_flags
from evalsvc.metrics.registry import Quantity, metric
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

_MEMORIZED = 0.1
_LEAST_DISTANCE = 1e-14
_LEAST_GENERATED = 20


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
    # All pairs of a far larger training set cost more than those of its few samples that are somebody's nearest.
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
        return mean_of_flags("authenticity", authentic.cpu().numpy(), units, details)

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
        return training.authentic
    control = as_matrix(heldout, "heldout")
    same_width(control, train, ("heldout", "train"))
    (flags,) = measure([Plan(control, train, partial(_Authentic, training=training))])
    found: Bool[np.ndarray, " h"] = flags.cpu().numpy()
    return found


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

    The standard error treats distance and divisor as independent, and ignores the step at 0.1. Raises
    :class:`MetricError` as :func:`frechet_distance` does.

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
    stderr, influence = distance.stderr, distance.influence
    if stderr is not None and copied:
        variance, pull = units.estimate(cosine.cpu().numpy())
        slope = distance.value * penalty
        stderr = penalty * math.hypot(stderr, slope * math.sqrt(variance))
        if isinstance(influence, Influence):
            # The mean cosine moves within a half as in the whole.
            influence = influence.minus(replace(pull, half=pull.whole), slope).times(penalty)
    return registry.score(
        "memorization_informed_frechet",
        distance.value * penalty,
        stderr,
        n=len(sample),
        method=distance.stderr_method if stderr is None else METHOD,
        details={"cosine_distance": mean, "penalty": penalty, "frechet_distance": distance.value},
        influence=influence,
        units=units,
    )


@metric(
    Quantity("ct_score", Direction.NEUTRAL, "standard deviations", target=0.0, title="C_T score", title_zh="C_T 分数"),
    version=1,
)
def ct_score(
    generated: Num[Array, "n d"],
    train: Num[Array, "m d"],
    heldout: Num[Array, "h d"],
    cells: int = 10,
    seed: int = 2020,
    groups: Groups | None = None,
) -> Score:
    """C_T (Meehan et al. 2020): are generated samples nearer to the training set than held-out ones are?

    Space is cut into k-means cells of ``train``. In each cell the distances to its nearest training sample are
    compared by a Mann-Whitney U, as a z-score; cells are averaged by their share of held-out samples, over those with
    more than 20 generated ones. Below 0 is copying, around 0 none, above 0 underfitting; the scale grows with the
    square root of n. ``details`` holds the number of ``cells`` used.

    The value is itself measured against the chance of the held-out draw, so the standard error is for both sets
    redrawn (delta method), with training set and cells as they are. Raises :class:`MetricError` where no cell has
    enough samples, widths differ, or a value is not finite.

    >>> rng = np.random.default_rng(0)
    >>> train, new, heldout = (rng.standard_normal((500, 4)) for _ in range(3))
    >>> abs(ct_score(new, train, heldout).value) < 3, ct_score(train + 0.01 * new, train, heldout).value < -5
    (True, True)
    """
    names = ("generated", "train", "heldout")
    sets = [as_matrix(x, name) for x, name in zip((generated, train, heldout), names, strict=True)]
    sample, points, control = sets
    same_width(sample, points, ("generated", "train"))
    same_width(control, points, ("heldout", "train"))
    if cells < 1:
        raise MetricError(f"cells = {cells} cut no space; give at least 1")
    centers = kmeans(points, cells, seed)
    owners = [cells_of(x, centers) for x in sets]
    used = [
        cell
        for cell in range(len(centers))
        if int((owners[0] == cell).sum()) > _LEAST_GENERATED and bool((owners[2] == cell).any())
    ]
    if not used:
        raise MetricError(
            f"none of {len(centers)} cells holds more than {_LEAST_GENERATED} of {len(sample)} generated samples and a "
            "held-out one; give more samples or fewer cells"
        )
    found = [_cell(*(x[owner == cell] for x, owner in zip(sets, owners, strict=True))) for cell in used]
    z, of_generated, of_heldout = zip(*found, strict=True)
    sizes = np.array([len(moves) for moves in of_heldout])
    weights = sizes / sizes.sum()
    value = float(weights @ z)
    psi, psi_heldout = np.zeros(len(sample)), np.zeros(len(control))
    for cell, weight, own, moves, others in zip(used, weights, z, of_generated, of_heldout, strict=True):
        psi[(owners[0] == cell).cpu().numpy()] = len(sample) * weight * moves
        psi_heldout[(owners[2] == cell).cpu().numpy()] = len(control) * (weight * others + (own - value) / sizes.sum())
    units = Units.of(len(sample), groups)
    variance, influence = units.estimate(psi)
    variance_heldout, of_control = Units.of(len(control)).estimate(psi_heldout)
    return registry.score(
        "ct_score",
        value,
        math.sqrt(variance + variance_heldout),
        n=len(sample),
        method="delta method over generated and held-out samples",
        details={"cells": float(len(found)), "n_train": float(len(points)), "n_heldout": float(len(control))},
        influence=replace(influence, control=of_control.whole),
        units=units,
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
    return torch.where(lengths > 0, squared / (2 * x.scale**2), 1.0)


def _directions(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float64[Tensor, " n"]]:
    lengths = torch.cat([block.norm(dim=1) for block in blocks(x)])
    return (x / torch.where(lengths > 0, lengths, 1.0)[:, None]).to(x.dtype), lengths


def _cell(
    generated: Float[Tensor, "n d"], train: Float[Tensor, "m d"], heldout: Float[Tensor, "h d"]
) -> tuple[float, Float64[np.ndarray, " n"], Float64[np.ndarray, " h"]]:
    """The z-score of one cell, and how much each generated and each held-out sample moves it."""
    x, y, reference = common_frame(generated, heldout, train)
    far, control = (knn(points, reference, 1)[0][:, 0].cpu().numpy() for points in (x, y))
    ordered, ordered_control = np.sort(far), np.sort(control)
    exceeded = _mean_position(ordered_control, far)
    exceeding = len(far) - _mean_position(ordered, control)
    n, h = len(far), len(control)
    surplus = exceeded.sum() - n * h / 2 + 0.5
    spread = math.sqrt(n * h * (n + h + 1) / 12)
    z = surplus / spread

    def moves(won: Float64[np.ndarray, " p"], own: int, other: int) -> Float64[np.ndarray, " p"]:
        growth = other * (2 * own + other + 1) / 24 / spread
        moved: Float64[np.ndarray, " p"] = (won - other / 2 - z * growth) / spread
        return moved

    return float(z), moves(exceeded, n, h), moves(exceeding, h, n)


def _mean_position(ordered: Float64[np.ndarray, " a"], values: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
    """How many entries each value exceeds, equal ones counting half."""
    ends = [np.searchsorted(ordered, values, side) for side in ("left", "right")]
    position: Float64[np.ndarray, " b"] = np.mean(ends, axis=0)
    return position
