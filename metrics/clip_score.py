"""CLIP score: how well images (or other samples of a joint embedding) match the prompts they were generated from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jaxtyping import Num

from evalsvc.metrics.arrays import as_matrix, blocks, same_width
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array


@metric(
    Quantity(
        "clip_score",
        Direction.HIGHER,
        unit="100 cosine",
        low=0.0,
        high=100.0,
        unbiased_in_n=True,
        title="CLIP score",
        title_zh="CLIP 分数",
    ),
    version=1,
)
def clip_score(generated: Num[Array, "n d"], prompts: Num[Array, "n d"], groups: Groups | None = None) -> Score:
    """Mean over samples of ``100 max(cos(sample, its prompt), 0)``; 0 to 100, higher is better.

    Row i of ``prompts`` is the embedding of the prompt of sample i. Hessel et al. (2021) multiply the same cosine by
    2.5 in place of 100. The standard error is that of a mean over independent samples, each with its own prompt, or
    over ``groups`` of samples (one label a row) where prompts are used more than once; none for a single one.
    ``details["cosine"]`` is the mean without the cut at 0.

    Raises :class:`MetricError` on unequal shapes, NaN or infinity, and embeddings of length 0.

    >>> round(clip_score(np.array([[1.0, 0.0], [0.0, -2.0]]), np.array([[1.0, 1.0], [0.0, 1.0]])).value, 3)
    35.355
    """
    x, y = as_matrix(generated, "generated"), as_matrix(prompts, "prompts")
    same_width(x, y, ("generated", "prompts"))
    if len(x) != len(y):
        raise MetricError(f"there are {len(x)} samples and {len(y)} prompts; prompt i belongs to sample i")
    products, lengths = (torch.cat(each) for each in zip(*map(_measured, blocks(x), blocks(y)), strict=True))
    if not bool((lengths > 0).all()):
        raise MetricError("an embedding of length 0 has no direction, so that its sample has no CLIP score")
    cosines = products / lengths
    each = 100 * cosines.clamp(0, 1)
    n, units = len(each), Units.of(len(each), groups)
    variance, influence = units.estimate(each.cpu().numpy())
    return score(
        "clip_score",
        float(each.mean()),
        math.sqrt(variance) if n > 1 else None,
        n=n,
        method="mean over samples" if n > 1 else "none: a single sample says nothing about the spread between samples",
        details={"cosine": float(cosines.mean())},
        influence=influence,
        units=units,
    )


def _measured(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The products of rows, and those of their lengths."""
    return (a * b).sum(1), a.square().sum(1).sqrt() * b.square().sum(1).sqrt()
