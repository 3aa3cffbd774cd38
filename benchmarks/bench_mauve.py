"""MAUVE of 2 x 5,000 embeddings of 1,024 numbers, five clusterings each: ours and mauve-text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ROWS, WIDTH = 5_000, 1_024


def embeddings(seed: int, shift: float) -> np.ndarray:
    """Rows whose principal components fall off as k^-0.7, as those of language models roughly do."""
    spectrum = np.arange(1, WIDTH + 1) ** -0.7
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((WIDTH, WIDTH)))[0]
    rows = np.random.default_rng(seed).standard_normal((ROWS, WIDTH)) + shift
    return ((rows * spectrum) @ axes).astype(np.float32)


def contenders() -> dict[str, Callable[[], float]]:
    from mauve import compute_mauve

    from evalsvc.metrics.functional import mauve

    generated, reference = embeddings(1, 0.0), embeddings(2, 0.1)
    return {
        "evalsvc": lambda: mauve(generated, reference).value,
        "mauve-text": lambda: float(compute_mauve(p_features=generated, q_features=reference, verbose=False).mauve),
    }
