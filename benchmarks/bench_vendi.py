"""Vendi score of 4,000 features of 512 numbers."""

from __future__ import annotations

import numpy as np
from features import features
from race import Contenders


def contenders() -> Contenders:
    from vendi_score import vendi

    from evalsvc.metrics.functional import vendi_score

    x = features(4_000, 1, width=512).astype(np.float64)
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    return {
        "evalsvc (with its standard error)": lambda: vendi_score(x).value,
        "vendi-score, default": lambda: float(vendi.score_K(units @ units.T)),
        "vendi-score, dual": lambda: float(vendi.score_dual(units, normalize=False)),
    }
