"""Precision, recall, density and coverage of 2 x 10,000 features of 2,048 numbers: ours, prdc and torch-fidelity.

torch-fidelity has precision and recall only. Ours has a standard error beside each value; nobody else has.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import numpy as np

ROWS, WIDTH = 10_000, 2_048


def features(seed: int, shift: float) -> np.ndarray:
    """Rows like those of an Inception network: not negative, a hundred classes, a spectrum that falls off."""
    basis = np.random.default_rng(7).standard_normal((1024, WIDTH)).astype(np.float32)
    spectrum = (np.arange(1, 1025) ** -0.5).astype(np.float32)
    centres = np.random.default_rng(8).standard_normal((100, 1024)).astype(np.float32)
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((ROWS, 1024), np.float32) + centres[rng.integers(0, 100, ROWS)] + np.float32(shift)
    noise = rng.standard_normal((ROWS, WIDTH), np.float32)
    return np.maximum(0.1 * (latent * spectrum) @ basis + 0.1 * noise, 0)


def contenders() -> dict[str, Callable[[], float]]:
    import torch
    from prdc import compute_prdc
    from torch_fidelity.metric_prc import prc_features_to_metric

    from metrics.functional import prdc, precision_recall

    generated, reference = features(1, 0.05), features(2, 0.0)
    tensors = torch.from_numpy(generated), torch.from_numpy(reference)

    def published() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            return float(compute_prdc(reference, generated, nearest_k=5)["recall"])

    return {
        "evalsvc": lambda: prdc(generated, reference)["recall"].value,
        "evalsvc, precision and recall": lambda: precision_recall(generated, reference)["recall"].value,
        "torch-fidelity": lambda: float(
            prc_features_to_metric(
                *tensors, prc_neighborhood=3, prc_batch_size=10_000, verbose=False, save_cpu_ram=False
            )["recall"]
        ),
        "prdc": published,
    }
