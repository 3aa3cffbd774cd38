"""Inception score (Salimans et al. 2016): are samples sure of their class, and are all classes there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Num

from evalsvc.metrics.arrays import as_matrix, taken
from evalsvc.metrics.devices import on_host
from evalsvc.metrics.influence import LEAST, METHOD, TOO_FEW
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

_PER_CLASS = 5


@metric(
    Quantity(
        "inception_score",
        Direction.HIGHER,
        unit="effective classes",
        low=1.0,
        title="Inception score",
        title_zh="Inception 分数",
    ),
    version=1,
    error_version=2,
)
def inception_score(
    logits: Num[Array, "n c"],
    splits: int = 10,
    seed: int = 2020,
    shuffle: bool = True,
    groups: Groups | None = None,
) -> Score:
    """Mean over ``splits`` chunks of ``exp(mean KL(p(y|x) || p(y)))``; from 1 to the classes' number, higher is better.

    ``logits`` are unnormalized log-probabilities, one row a sample. As torch-fidelity does it: rows are shuffled by
    ``RandomState(seed)``, chunk i is ``[i n // splits, (i + 1) n // splits)``, all in float64; ``details["std"]`` is
    the standard deviation over chunks (ddof 0). A class of probability zero adds nothing.

    The score grows with the size of a chunk; two scores at different n or ``splits`` are not comparable. The standard
    error speaks of the expected score at this chunk size: each sample's influence on its chunk is found by leaving it
    out, and their variance corrected by halves (:mod:`evalsvc.metrics.influence`). It is ``None`` where a chunk has
    fewer than 20 samples, or fewer than five for each effective class. ``groups`` has one label a row where rows of a
    label (draws of one prompt) are not independent.

    Raises :class:`MetricError` on fewer rows than ``splits``, NaN or infinity.

    >>> round(inception_score(1000.0 * np.eye(10).repeat(50, axis=0), splits=1).value, 9)
    10.0
    """
    x = as_matrix(logits, "logits")
    n = len(x)
    if not 1 <= splits <= n:
        raise MetricError(f"{n} rows of logits cannot be cut into {splits} splits; give 1 to {n}")
    order = torch.from_numpy(np.random.RandomState(seed).permutation(n)) if shuffle else torch.arange(n)
    units = Units.of(n, groups)
    first = np.zeros(n, bool)
    first[units.halves[0]] = True
    divergences, moves, places = [], [], []
    psi, within = np.zeros(n), np.zeros(n)
    for i in range(splits):
        rows = order[i * n // splits : (i + 1) * n // splits]
        log_p = taken(x, rows).double().log_softmax(1)
        p = log_p.exp()
        negative_entropy = torch.where(p > 0, p * log_p, 0.0).sum(1)  # 0 log 0 is 0
        divergences.append(negative_entropy.mean() + torch.special.entr(p.mean(0)).sum())
        moves.append(_influence(p, negative_entropy))
        places.append((i, psi, rows.numpy()))
        for half in (first[rows.numpy()], ~first[rows.numpy()]):
            index = torch.from_numpy(np.flatnonzero(half)).to(p.device)
            if len(index) > 1:
                moves.append(_influence(p[index], negative_entropy[index]))
                places.append((i, within, rows.numpy()[half]))
    scores = [max(1.0, math.exp(divergence)) for divergence in torch.stack(divergences).tolist()]
    ends = np.cumsum([len(move) for move in moves])
    for (i, influences, place), move in zip(places, np.split(on_host(torch.cat(moves)), ends[:-1]), strict=True):
        # A row moves the mean over splits through the split that it is in.
        size = (i + 1) * n // splits - i * n // splits
        influences[place] = scores[i] * n / (splits * size) * (move - move.mean())
    value, details = float(np.mean(scores)), {"std": float(np.std(scores))}
    reason = "" if n // splits >= LEAST else TOO_FEW.replace("samples", "samples in a split")
    if n // splits < _PER_CLASS * value:
        reason = f"none: fewer than {_PER_CLASS} samples in a split for each effective class"
    if reason:
        return score("inception_score", value, None, n=n, method=reason, details=details, units=units)
    variance, influence = units.estimate(psi, [within[half] for half in units.halves])
    return score(
        "inception_score",
        value,
        math.sqrt(variance),
        n=n,
        method=f"jackknife, {METHOD}",
        details=details,
        influence=influence,
        units=units,
    )


def _influence(p: Float64[Tensor, "n c"], negative_entropy: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """The increase of the mean KL divergence of the rows from their mean with each row, times n, up to a constant.

    Each row is actually left out: the derivative ignores a class that only one sample has.
    """
    n = len(p)
    rest = ((p.sum(0) - p) / (n - 1)).clamp_(min=0)
    influence: Tensor = negative_entropy - (n - 1) * torch.special.entr(rest).sum(1)
    return influence
