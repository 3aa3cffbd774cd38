"""Mean and covariance of 8,192 float32 features of 2,048 numbers."""

from __future__ import annotations

import numpy as np
import torch
from features import features
from race import Contenders

ROWS = 8_192
BATCHES = (32, 256)
"""Rows of an update; 32 to 64 are what Inception is usually fed."""


def contenders() -> Contenders:
    from torchmetrics.image.fid import FrechetInceptionDistance

    from evalsvc.metrics import FrechetDistance, Moments

    x = features(ROWS, seed=1)

    class Given(torch.nn.Module):
        num_features = x.shape[1]

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return batch

    def ours(batch: int) -> float:
        metric = FrechetDistance()
        for rows in torch.split(torch.from_numpy(x), batch):
            metric.update(generated=rows)
        return float(metric._copy_state_dict()["generated_scatter"].trace()) / (ROWS - 1)

    def torchmetrics(batch: int) -> float:
        metric = FrechetInceptionDistance(feature=Given(), normalize=True, input_img_size=(1, x.shape[1]))
        for rows in torch.split(torch.from_numpy(x), batch):
            features = metric.inception(rows).double()
            metric.real_features_sum += features.sum(dim=0)
            metric.real_features_cov_sum += features.t().mm(features)
        squares = metric.real_features_cov_sum.trace() - metric.real_features_sum.square().sum() / ROWS
        return float(squares / (ROWS - 1))

    return {
        "evalsvc": lambda: float(Moments.of(x).covariance.trace()),
        "numpy": lambda: float(np.trace(np.cov(x, rowvar=False))),
        **{f"evalsvc, updates of {batch}": (lambda batch=batch: ours(batch)) for batch in BATCHES},
        **{f"torchmetrics, updates of {batch}": (lambda batch=batch: torchmetrics(batch)) for batch in BATCHES},
    }
