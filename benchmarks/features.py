"""Rows like those of an Inception network: not negative, in a hundred classes, with a spectrum that falls off."""

from __future__ import annotations

import numpy as np

WIDTH = 2_048


def features(rows: int, seed: int, shift: float = 0.0, width: int = WIDTH) -> np.ndarray:
    basis = np.random.default_rng(7).standard_normal((width // 2, width)).astype(np.float32)
    spectrum = (np.arange(1, width // 2 + 1) ** -0.5).astype(np.float32)
    centres = np.random.default_rng(8).standard_normal((100, width // 2)).astype(np.float32)
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((rows, width // 2), np.float32) + centres[rng.integers(0, 100, rows)]
    noise = rng.standard_normal((rows, width), np.float32)
    return np.maximum(0.1 * ((latent + np.float32(shift)) * spectrum) @ basis + 0.1 * noise, 0)
