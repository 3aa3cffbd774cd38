"""Feature likelihood divergence (FLD, Jiralerspong et al. 2023): fidelity, variety and novelty in one number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float64, Num

from evalsvc.metrics.arrays import as_matrix, same_width
from evalsvc.metrics.devices import together
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity, metric, score
from evalsvc.metrics.score import Direction, Score

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.metrics.arrays import Array

_SCALE = 100.0
_BATCH, _EPOCHS, _RATE, _STILL = 10_000, 50, 0.5, 5e-4
_MOST = 40.0
"""Bound of the logarithm of a variance, which has none where a sample is a copy."""
_NEAR = 1e-3
_BACKGROUND = 0.9**2
_NO_ERROR = "none: the widths are fitted again for other samples, which no influence of a single one tells"


@metric(
    Quantity(
        "feature_likelihood_divergence",
        Direction.LOWER,
        unit="nats per 100 dimensions",
        title="Feature likelihood divergence (FLD)",
        title_zh="特征似然散度（FLD）",
        beside=("authenticity",),
    ),
    version=1,
)
def feature_likelihood_divergence(
    generated: Num[Array, "n d"],
    train: Num[Array, "m d"],
    heldout: Num[Array, "h d"],
    seed: int = 2020,
) -> Score:
    """FLD (Jiralerspong et al. 2023): nats per 100 dimensions by which held-out samples are less likely than by data.

    Lower is better. Features are standardized by the held-out ones. A normal law at each generated sample, as wide as
    makes the *training* samples most likely, gives the density of the *held-out* ones: copies of training samples
    become narrow, and leave held-out samples unlikely. The same with one half of the training set in place of the
    generated samples, fitted to the other half, is taken off: 0 is as good as real data, in expectation where laws are
    equal and n is half of m; hundreds are copies, exact copies have no bound. Compare at equal n.

    The fit is that of the authors' code: Adam at rate 0.5 from the distance to the nearest training sample, at most 50
    epochs. It takes at most 10,000 generated samples at random: give as many. ``seed`` halves the training set.
    Memory grows as n times m.

    No error is given. ``details`` has the nats per dimension of both mixtures.

    Raises :class:`MetricError` on fewer than 4 training or 2 other rows, unequal widths, NaN or infinity.

    >>> x = np.random.default_rng(0).standard_normal((600, 4))
    >>> new, copies = (feature_likelihood_divergence(y, x[:200], x[200:400]).value for y in (x[400:], x[:200]))
    >>> abs(new) < 10 < 1000 < copies
    True
    """
    sets = as_matrix(generated, "generated", 2), as_matrix(train, "train", 4), as_matrix(heldout, "heldout", 2)
    same_width(sets[0], sets[1], ("generated", "train"))
    same_width(sets[1], sets[2], ("train", "heldout"))
    centers, seen, unseen = _standardized(*together(*sets))
    rng = np.random.default_rng(seed)
    nats = _Mixture.fitted(centers, seen, rng).nats(unseen)
    mixed = seen[torch.from_numpy(rng.permutation(len(seen))).to(seen.device)]
    half = min(len(centers), len(seen) // 2)
    baseline = _Mixture.fitted(mixed[:half], mixed[half:], rng).nats(unseen)
    return score(
        "feature_likelihood_divergence",
        _SCALE * float((nats - baseline).mean()),
        None,
        n=len(centers),
        method=_NO_ERROR,
        details={"nats": float(nats.mean()), "baseline_nats": float(baseline.mean())},
        reference=_NO_ERROR,
    )


def _standardized(*sets: Float[Tensor, "_ d"]) -> list[Float64[Tensor, "_ d"]]:
    """The sets in units of the last one's standard deviation, constant features in their own."""
    last = sets[-1].double()
    spread = last.std(0)
    spread = spread.where(spread > 0, torch.ones_like(spread))
    return [(x.double() - last.mean(0)) / spread for x in sets]


@dataclass(frozen=True)
class _Mixture:
    """Normal laws of equal weight around ``centers``, with the logarithm of the variance of each."""

    centers: Float64[Tensor, "n d"]
    logs: Float[Tensor, " n"]

    @classmethod
    def fitted(
        cls, centers: Float64[Tensor, "n d"], rows: Float64[Tensor, "m d"], rng: np.random.Generator
    ) -> _Mixture:
        """The widths under which the rows are most likely, with a wide law at their mean so that none is impossible.

        The wide law is as likely as any one of the rows' densities, and no part of the result.
        """
        rows = rows[torch.from_numpy(rng.permutation(len(rows))).to(rows.device)]
        n, d = centers.shape
        background = _BACKGROUND * (rows - rows.mean(0)).square().sum(1)
        squares = torch.cat([_squares(rows, centers), background.float()[:, None]], dim=1)
        logs = torch.cat([(squares[:, :n].amin(0) + _NEAR).div_(d).log_(), squares.new_zeros(1)])
        weights = torch.full_like(logs, -math.log(n))
        weights[n] = 0
        speed, power, losses, step = torch.zeros_like(logs), torch.zeros_like(logs), list[float](), 0
        while len(losses) < _EPOCHS and not (
            len(losses) > 6 and max(abs(x - losses[-1]) for x in losses[-5:]) < _STILL
        ):
            nats = []
            for batch in torch.split(squares, _BATCH):
                shares, own = _shares(_log_densities(batch, logs, d) + weights, d)
                nats.append(own.mean())
                gradient = (shares.sum(0) - (shares * batch).sum(0) / (d * logs.exp())) / (2 * len(batch))
                step += 1
                speed = 0.9 * speed + 0.1 * gradient
                power = 0.999 * power + 0.001 * gradient.square()
                stride = (power / (1 - 0.999**step)).sqrt() + 1e-8
                logs = logs - _RATE / (1 - 0.9**step) * speed / stride
                logs[:n].clamp_(-_MOST, _MOST)
            losses.append(sum(torch.stack(nats).tolist()) / len(nats))
        return cls(centers, logs[:n])

    def nats(self, rows: Float64[Tensor, "h d"]) -> Float64[np.ndarray, " h"]:
        """Nats per dimension of each row."""
        n, d = self.centers.shape
        densities = _log_densities(_squares(rows, self.centers), self.logs, d) - math.log(n)
        return _shares(densities, d)[1].double().cpu().numpy()


def _squares(rows: Float64[Tensor, "m d"], centers: Float64[Tensor, "n d"]) -> Float[Tensor, "m n"]:
    """Squared distances: products are taken in float64, as those of copies are 0."""
    norms = rows.square().sum(1)[:, None] + centers.square().sum(1)
    return torch.addmm(norms, rows, centers.T, alpha=-2).clamp_(min=0).float()


def _log_densities(squares: Float[Tensor, "m n"], logs: Float[Tensor, " n"], d: int) -> Float[Tensor, "m n"]:
    return (squares / logs.exp()).add_(logs + math.log(2 * math.pi), alpha=d).mul_(-0.5)


def _shares(densities: Float[Tensor, "m n"], d: int) -> tuple[Float[Tensor, "m n"], Float[Tensor, " m"]]:
    """The share of each law in the density of each row, and the row's nats per dimension."""
    whole = densities.logsumexp(1, keepdim=True)
    return (densities - whole).exp_(), whole.squeeze(1) / -d
