"""MIND: a sliced distance for quick looks, the mean squared gap between sorted projections."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Num

from evalsvc.metrics.arrays import as_matrix, blocks, same_width
from evalsvc.metrics.devices import device_of
from evalsvc.metrics.influence import LEAST, METHOD, TOO_FEW, Influence, Rows, some_rows
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import Direction, MetricError, Score
from evalsvc.metrics.skewness import Noise, of_quadratic, pairs_skewness
from evalsvc.metrics.sums import running_sums
from evalsvc.metrics.units import Groups, Units

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

_SLAB_BYTES = 2**26
_SHAPED = 512
_FIXED = "none: the influences of the reference's rows are not found"
_OF_MEANS = 0.8
"""The distance's skewness at equality over that of the means' alone, to which the projections' spreads add."""


@metric(
    Quantity("mind", Direction.LOWER, unit="squared feature units", low=0.0, title="MIND", title_zh="MIND"),
    version=1,
    error_version=3,
)
def mind(
    generated: Num[Array, "n d"],
    reference: Num[Array, "m d"],
    directions: int = 1000,
    seed: int = 2020,
    groups: Groups | None = None,
) -> Score:
    """``3 d mean((sort(X u) - sort(Y u))^2)`` over unit directions u; 0 is equal, lower is better.

    The larger set is cut to the size of the smaller by a seeded choice of rows. Directions are uniform on the sphere,
    from a seeded generator, in orthonormal frames of up to d: where d divides ``directions``, a shift of all rows by s
    gives ``3 |s|^2`` exactly and not only in the mean.

    The standard error speaks of the expected value at this n against this fixed reference along these directions: the
    influence of a sample is the Kantorovich potential of each projection, corrected by halves
    (:mod:`evalsvc.metrics.influence`); none for n < 20. The interval is as skewed as a squared distance. ``groups`` has
    one label a row where rows of a label (draws of one prompt) are not independent. ``details["directions_stderr"]``
    is the noise of the directions.

    Raises :class:`MetricError` on unequal widths, NaN or infinity, and fewer than one direction.

    >>> x = np.random.default_rng(0).standard_normal((100, 4))
    >>> round(mind(x + np.array([2.0, 0, 0, 0]), x).value, 9)
    12.0
    """
    x, y = as_matrix(generated, "generated"), as_matrix(reference, "reference")
    same_width(x, y)
    if directions < 1:
        raise MetricError(f"mind along {directions} directions does not exist; give at least 1")
    rng = np.random.default_rng(seed)
    n, d = min(len(x), len(y)), x.shape[1]
    units, kept = Units.of(len(x), groups), _cut(len(x), n, rng)
    units = units.part(kept) if len(kept) < len(x) else units
    x, y = _taken(x, kept), _taken(y, _cut(len(y), n, rng))
    device, sure = device_of(x, y), units.count >= LEAST
    frames = _frames(directions, d, rng).to(device)
    halves = [torch.from_numpy(half).to(device) for half in units.halves] if sure else []
    parts = [torch.arange(n, device=device), *halves]
    squares, potentials = [], [frames.new_zeros(len(rows)) for rows in parts]
    for frame in torch.split(frames, max(1, _SLAB_BYTES // (8 * n))):
        along_x, quantiles = _along(frame, x), _along(frame, y).sort(1).values
        for rows, potential in zip(parts, potentials, strict=True):
            ranked, order = along_x[:, rows].sort(1)
            gaps = ranked - torch.nn.functional.interpolate(quantiles[None], len(rows), mode="linear")[0]
            if len(rows) == n:
                squares.append(gaps.square().mean(1))
            potential += _potentials(ranked, gaps).gather(1, order.argsort(1)).sum(0)
    each = 3 * d * torch.cat(squares)
    value, spread = torch.stack([each.mean(), each.std() if directions > 1 else each.new_zeros(())]).tolist()
    moves = (3 * d / directions * torch.cat(potentials)).cpu().numpy()
    whole, *within = np.split(moves, np.cumsum([len(rows) for rows in parts])[:-1])
    details = {"directions_stderr": spread / directions**0.5}
    if not sure:
        return score("mind", value, None, n=n, method=TOO_FEW, details=details, units=units, reference=_FIXED)
    variance, influence = units.estimate(whole, within)
    stderr, skewness = math.sqrt(variance), _skewness(x, influence, math.sqrt(variance))
    method = METHOD + influence.remark
    return score(
        "mind", value, stderr, n=n, method=method, details=details, units=units, skewness=skewness, reference=_FIXED
    )


def _skewness(x: Tensor, influence: Influence, stderr: float) -> float:
    """Skewness of a squared distance, whose noise is seen in the halves, shaped as the distance of the means."""
    assert influence.whole is not None
    assert influence.half is not None
    whole, half = (float(np.mean(np.square(psi, dtype=np.float64))) for psi in (influence.whole, influence.half))
    own = min(math.sqrt(max(half - whole, 0.0) / (2 * influence.n)), stderr)
    some = _taken(x, some_rows(len(x), _SHAPED)).double()
    some = some - some.mean(0)
    return of_quadratic(influence, stderr, Noise(own, _OF_MEANS * pairs_skewness((some @ some.T).cpu().numpy())))


def _cut(rows: int, n: int, rng: np.random.Generator) -> Rows:
    return np.arange(rows) if rows == n else np.sort(rng.choice(rows, n, replace=False))


def _taken(x: Tensor, rows: Rows) -> Tensor:
    return x if len(x) == len(rows) else x[torch.from_numpy(rows).to(x.device)]


def _frames(directions: int, d: int, rng: np.random.Generator) -> Tensor:
    """Unit rows, orthogonal to each other within each consecutive d of them."""
    frames = [
        np.linalg.qr(rng.standard_normal((d, min(d, directions - start))))[0].T for start in range(0, directions, d)
    ]
    return torch.from_numpy(np.concatenate(frames))


def _along(frame: Tensor, x: Tensor) -> Tensor:
    return torch.cat([frame @ block.T for block in blocks(x)], 1)


def _potentials(ranked: Tensor, gaps: Tensor) -> Tensor:
    """Integral of twice the gap along each sorted projection, by trapezoids: what a sample moved in costs."""
    steps = (gaps[:, 1:] + gaps[:, :-1]) * ranked.diff(dim=1)
    return torch.nn.functional.pad(running_sums(steps), (1, 0))
