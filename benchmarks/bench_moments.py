"""Mean and covariance of 8,192 float32 features of 2,048 numbers."""

from __future__ import annotations

import numpy as np
import torch
from features import features
from race import Contenders

ROWS, BATCH = 8_192, 256


def contenders() -> Contenders:
    from torchmetrics.image.fid import FrechetInceptionDistance

    from metrics import Moments

    x = features(ROWS, seed=1)
    batches = torch.split(torch.from_numpy(x), BATCH)

    class Given(torch.nn.Module):
        num_features = x.shape[1]

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return batch

    def torchmetrics() -> float:
        metric = FrechetInceptionDistance(feature=Given(), normalize=True, input_img_size=(1, x.shape[1]))
        for batch in batches:
            features = metric.inception(batch).double()
            metric.real_features_sum += features.sum(dim=0)
            metric.real_features_cov_sum += features.t().mm(features)
        squares = metric.real_features_cov_sum.trace() - metric.real_features_sum.square().sum() / ROWS
        return float(squares / (ROWS - 1))

    return {
        "evalsvc": lambda: float(Moments.of(x).covariance.trace()),
        "numpy": lambda: float(np.trace(np.cov(x, rowvar=False))),
        "torchmetrics, batches of 256": torchmetrics,
    }
