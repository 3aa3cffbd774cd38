"""The error of any metric, by drawing the generated samples again and again with replacement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64, Num, Shaped

from evalsvc.metrics.arrays import as_matrix
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.score import MetricError, Score

if TYPE_CHECKING:
    from evalsvc.metrics.arrays import Array

Result = Score | Mapping[str, Score]


def bootstrap(
    metric: Callable[..., Result],
    generated: Num[Array, "n d"],
    reference: Any = None,
    replicates: int = 200,
    seed: int = 2020,
    groups: Shaped[np.ndarray, " n"] | None = None,
) -> Score | dict[str, Score]:
    """``metric(generated, reference)`` with a bootstrap standard error and 95 % percentile interval.

    Rows of ``generated`` are drawn with replacement, or whole ``groups`` of them (one label a row: prompts, seeds,
    speakers) where rows of a group are not independent; ``reference`` is handed on as it is, and left out where it is
    ``None``. The value stays that of the full sample; a metric that returns several scores gets each of them back.

    Not for metrics with k-nearest-neighbor radii (precision, recall, density, coverage, realism, authenticity,
    C_T): a sample drawn twice is its own neighbor at distance 0 and the radii collapse. They bring their own errors.
    A metric whose bias depends on n, as the Frechet distance, has it once more in every replicate: its percentile
    interval sits too high, its standard error is sound.

    Raises :class:`MetricError` on fewer than 2 replicates, or fewer than 2 rows or groups.

    >>> from evalsvc.metrics.vendi import vendi_score
    >>> score = bootstrap(vendi_score, np.random.default_rng(0).standard_normal((50, 3)), replicates=50)
    >>> score.ci_low < score.value
    True
    """
    rows = as_matrix(generated, "generated", minimum=2)
    if replicates < 2:
        raise MetricError(f"replicates = {replicates} is too few to estimate a spread; pass at least 2")
    clusters = _clusters(len(rows), groups)
    inputs = () if reference is None else (reference,)
    whole = _scores(metric(rows, *inputs))
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in whole}
    for _ in range(replicates):
        chosen = np.concatenate([clusters[i] for i in rng.integers(0, len(clusters), len(clusters))])
        for name, score in _scores(metric(rows[torch.from_numpy(chosen).to(rows.device)], *inputs)).items():
            drawn[name].append(score.value)
    unit = "samples" if groups is None else "groups"
    method = f"bootstrap over {len(clusters)} {unit}, {replicates} replicates"
    result = {name: _with_error(score, np.array(drawn[name]), method) for name, score in whole.items()}
    return next(iter(result.values())) if "" in result else result


def _scores(result: Result) -> Mapping[str, Score]:
    return {"": result} if isinstance(result, Score) else result


def _clusters(n: int, groups: Shaped[np.ndarray, " n"] | None) -> list[Int64[np.ndarray, " _"]]:
    if groups is None:
        return list(np.arange(n)[:, None])
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise MetricError(f"groups has shape {labels.shape}; pass one label for each of the {n} generated rows")
    _, owner, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise MetricError(
            "groups has a single group, from which no spread between groups can be estimated; pass at least 2 groups"
        )
    return np.split(np.argsort(owner, kind="stable"), np.cumsum(sizes)[:-1])


def _with_error(score: Score, values: np.ndarray, method: str) -> Score:
    low, high = np.quantile(values, [0.025, 0.975])
    return replace(
        score, stderr=float(values.std(ddof=1)), ci_low=float(low), ci_high=float(high), stderr_method=method
    )
