"""KID of 100 subsets of 1,000 at 2,048 features."""

from __future__ import annotations

import numpy as np
import torch
from features import features
from race import Contenders


def _of(rows: int) -> Contenders:
    from cleanfid.fid import kernel_distance as clean_fid
    from torch_fidelity.metric_kid import kid_features_to_metric

    from evalsvc.metrics.functional import kernel_distance

    x, y = features(rows, 1, 0.05), features(rows, 2)
    tensors = torch.from_numpy(x), torch.from_numpy(y)

    def clean() -> float:
        np.random.seed(0)
        return float(clean_fid(x, y, num_subsets=100, max_subset_size=1000))

    def fidelity() -> float:
        found = kid_features_to_metric(*tensors, kid_subsets=100, kid_subset_size=1000, verbose=False, rng_seed=2020)
        return float(found["kernel_inception_distance_mean"])

    return {
        "evalsvc": lambda: kernel_distance(x, y).value,
        "evalsvc, all pairs": lambda: kernel_distance(x, y, subsets=None).value,
        "clean-fid": clean,
        "torch-fidelity": fidelity,
    }


def rows_2000() -> Contenders:
    return _of(2_000)


def rows_5000() -> Contenders:
    return _of(5_000)
