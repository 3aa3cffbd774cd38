"""Precision, recall, density and coverage of 2 x 10,000 features of 2,048 numbers.

torch-fidelity has precision and recall only; ours has all four and a standard error beside each.
"""

from __future__ import annotations

import contextlib
import io

import torch
from features import features
from race import Contenders


def contenders(rows: int = 10_000) -> Contenders:
    from prdc import compute_prdc
    from torch_fidelity.metric_prc import prc_features_to_metric

    from evalsvc.metrics.functional import prdc, precision_recall

    generated, reference = features(rows, 1, 0.05), features(rows, 2)
    tensors = torch.from_numpy(generated), torch.from_numpy(reference)  # version 0.4.0 takes them in this order

    def fidelity() -> float:
        options = {"prc_neighborhood": 3, "prc_batch_size": 10_000, "save_cpu_ram": False, "verbose": False}
        return float(prc_features_to_metric(*tensors, **options)["recall"])

    def published() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            return float(compute_prdc(reference, generated, nearest_k=5)["recall"])

    return {
        "evalsvc": lambda: prdc(generated, reference)["recall"].value,
        "evalsvc, precision and recall": lambda: precision_recall(generated, reference)["recall"].value,
        "torch-fidelity, precision and recall": fidelity,
        "prdc": published,
    }
