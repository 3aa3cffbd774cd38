"""Frechet distance at 2,048 features, from moments (n > d) and from few rows (n < d)."""

from __future__ import annotations

from typing import Any

import torch
from features import features
from race import Contenders

from evalsvc.metrics import Moments
from evalsvc.metrics.functional import frechet_distance
from evalsvc.metrics.transport import Gaussian, covariance_part


def from_moments() -> Contenders:
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    sets = [Moments.of(features(8_192, seed, shift)) for seed, shift in ((1, 0.05), (2, 0.0))]
    plain = [(moments.n, moments.mean, moments.covariance) for moments in sets]
    arrays = [{"mu": mean.numpy(), "sigma": covariance.numpy()} for _, mean, covariance in plain]
    cached = Moments(*plain[1])

    def sqrtm() -> float:
        try:
            return float(calculate_frechet_distance(*arrays[0].values(), *arrays[1].values()))
        except (TypeError, ValueError):  # SciPy 1.18 has taken away an argument that the peer passes
            return float("nan")

    return {
        "evalsvc": lambda: frechet_distance(Moments(*plain[0]), Moments(*plain[1])).value,
        "evalsvc, reference's factor kept": lambda: frechet_distance(Moments(*plain[0]), cached).value,
        "torchmetrics": lambda: float(_compute_fid(plain[0][1], plain[0][2], plain[1][1], plain[1][2])),
        "torch-fidelity": lambda: float(fid_statistics_to_metric(*arrays, verbose=False)["frechet_inception_distance"]),
        "pytorch-fid (sqrtm)": sqrtm,
    }


def value_alone(x: Any, y: Any) -> float:
    """The distance without its standard error, of arrays or moments."""
    first, second = Gaussian.of(x, "generated"), Gaussian.of(y, "reference")
    means = float((first.mean - second.mean).square().sum())
    return means + covariance_part(first, second, means)


def _few(rows: int) -> Contenders:
    from torchmetrics.image.fid import _compute_fid

    x, y = features(rows, 1, 0.05), features(rows, 2)

    def torchmetrics() -> float:
        moments = []
        for rows in (x, y):
            exact = torch.from_numpy(rows).double()
            moments += [exact.mean(0), exact.T.cov()]
        return float(_compute_fid(*moments))

    return {
        "evalsvc, value": lambda: value_alone(x, y),
        "evalsvc, value and standard error": lambda: frechet_distance(x, y).value,
        "torchmetrics (eigvals)": torchmetrics,
    }


def few_500() -> Contenders:
    return _few(500)


def few_2000() -> Contenders:
    return _few(2_000)


def equal_500() -> Contenders:
    x = features(500, 1)
    return {"evalsvc": lambda: frechet_distance(x, x.copy()).value}
