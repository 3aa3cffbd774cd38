"""The Frechet distance in many dimensions: the truth from Bartlett's factors, errors from a few samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.uncertainty.laws import MOVES
from evalsvc.metrics import Moments
from evalsvc.metrics.functional import frechet_distance

SAMPLES = 20


def wishart(d: int, n: int, power: float, draws: int) -> Iterator[dict[str, Any]]:
    """Ratio of the mean error of 20 samples to the deviation of ``draws`` distances whose samples were never drawn."""
    deviations = torch.arange(1, d + 1, dtype=torch.float64) ** (-power / 2)
    target = Moments(10**9, np.zeros(d), np.diag(deviations.numpy() ** 2))
    for move in ("equal", "far"):
        shift, scale = MOVES[move]
        rng = np.random.default_rng(0)
        values = np.array([_distance(rng, n, deviations, shift, scale) for _ in range(draws)])
        scores = []
        for seed in range(SAMPLES):
            x = np.random.default_rng(seed).standard_normal((n, d)) * scale + shift
            scores.append(frechet_distance(x * deviations.numpy(), target))
        stderrs = [each.stderr or 0.0 for each in scores]
        ends = [(each.ci_low or 0.0, each.ci_high or 0.0) for each in scores]
        truth = float(values.mean())
        yield {
            "law": f"normal k^-{power:g}, d = {d}",
            "move": move,
            "n": n,
            "metric": "Fréchet distance, truth by Bartlett",
            "group": "wishart",
            "m": None,
            "draws": draws,
            "samples": SAMPLES,
            "value": truth,
            "ratio": round(float(np.mean(stderrs) / values.std(ddof=1)), 4),
            "ratio_error": round((2 * draws) ** -0.5, 4),
            "coverage": {"0.95": float(np.mean([low <= truth <= high for low, high in ends]))},
        }


def _distance(rng: np.random.Generator, n: int, deviations: torch.Tensor, shift: float, scale: float) -> float:
    d = len(deviations)
    factor = torch.from_numpy(np.tril(rng.standard_normal((d, d)), -1))
    factor.diagonal().copy_(torch.from_numpy(rng.chisquare(n - np.arange(1, d + 1)) ** 0.5))
    factor.mul_((deviations * scale / (n - 1) ** 0.5)[:, None])
    mean = deviations * (shift + scale * torch.from_numpy(rng.standard_normal(d)) / n**0.5)
    product = factor.T * deviations
    overlap = float(torch.linalg.eigvalsh(product @ product.T).clamp(min=0).sqrt().sum())
    return float(mean.square().sum() + factor.square().sum() + deviations.square().sum()) - 2 * overlap
