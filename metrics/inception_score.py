"""Inception score (Salimans et al. 2016): are samples sure of their class, and are all classes there."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

from metrics.arrays import Array, as_matrix
from metrics.influence import LEAST, METHOD, halves, variance
from metrics.registry import Quantity, metric, score
from metrics.score import Direction, MetricError, Score


@metric(Quantity("inception_score", Direction.HIGHER, unit="effective classes", low=1.0), version=1)
def inception_score(logits: Num[Array, "n c"], splits: int = 10, seed: int = 2020, shuffle: bool = True) -> Score:
    """Mean over ``splits`` chunks of ``exp(mean KL(p(y|x) || p(y)))``; from 1 to the number of classes, higher is better.

    ``logits`` are unnormalised log-probabilities, one row a sample. As torch-fidelity does it: rows are shuffled by
    ``RandomState(seed)``, chunk i is ``[i n // splits, (i + 1) n // splits)``, all in float64; ``details["std"]`` is the
    standard deviation over chunks (ddof 0). A class of probability zero adds nothing.

    The score grows with the size of a chunk; two scores at different n or ``splits`` are not comparable. The standard
    error speaks of the expected score at this chunk size: a sample's influence on a chunk's score is the score times
    its own KL, and its variance is corrected by halves (:mod:`metrics.influence`). There is none for chunks under 20.

    Raises :class:`MetricError` on fewer rows than ``splits``, NaN or infinity.

    >>> inception_score(1000.0 * np.eye(10).repeat(50, axis=0), splits=1).value
    10.0
    """
    x = as_matrix(logits, "logits")
    n = len(x)
    if not 1 <= splits <= n:
        raise MetricError(f"{n} rows of logits cannot be cut into {splits} splits; give 1 to {n}")
    order = torch.from_numpy(np.random.RandomState(seed).permutation(n)) if shuffle else torch.arange(n)
    scores, variances = [], []
    for i in range(splits):
        rows = order[i * n // splits : (i + 1) * n // splits]
        log_p = x[rows.to(x.device)].double().log_softmax(1)
        p = log_p.exp()
        divergences = _divergences(p, log_p)
        scores.append(math.exp(float(divergences.mean())))
        if n // splits >= LEAST:
            parts = [half.to(x.device) for half in halves(len(rows))]
            within = sum(float(_divergences(p[half], log_p[half]).var()) for half in parts) / 2
            variances.append(scores[-1] ** 2 * variance(float(divergences.var()), within) / len(rows))
    return score(
        "inception_score",
        float(np.mean(scores)),
        math.sqrt(sum(variances)) / splits if variances else None,
        n=n,
        method=METHOD if variances else f"none: fewer than {LEAST} samples in a split",
        details={"std": float(np.std(scores))},
    )


def _divergences(p: Tensor, log_p: Tensor) -> Tensor:
    """KL of each row from the mean of all; where a probability has fallen to zero, 0 log 0 is 0."""
    mean = p.mean(0)
    difference = log_p - torch.where(mean > 0, mean, 1.0).log()
    return torch.where(p > 0, p * difference, 0.0).sum(1)
