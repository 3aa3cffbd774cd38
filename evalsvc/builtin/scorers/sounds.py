"""Rows of scorers of sounds: each wave alone, checked and at the rate that the scorer needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32

from evalsvc.builtin.scorers.rows import Failed, score_rows
from evalsvc.core.errors import InputError
from evalsvc.inputs.sounds.decoding import resample
from evalsvc.plugins.items import Scored
from evalsvc.plugins.samples import Audio, Samples
from evalsvc.plugins.scorers import ScorerInfo

Wave = Float32[np.ndarray, " t"]


def score_sounds(
    info: ScorerInfo, samples: Samples, judge: Callable[[int, Wave], Sequence[float]], rate: int | None = None
) -> Scored:
    """Judge each wave with its row, at ``rate`` in Hz or as it is. An empty wave, or one with NaN, fails.

    Raises:
        InputError: the samples are not sounds.
    """
    if not isinstance(samples, Audio):
        raise InputError(f"scorer {info.name!r} requires audio samples")
    return score_rows(info, len(samples), lambda row: judge(row, wave_of(info.name, samples, row, rate)))


def wave_of(scorer: str, sounds: Audio, row: int, rate: int | None = None) -> Wave:
    """One wave as an array, at ``rate`` in Hz (by soxr at high quality) or as it is.

    Raises:
        Failed: it is empty, or not finite.
    """
    wave = sounds.waves[row].cpu().numpy()
    if not len(wave):
        raise Failed("the sound is empty")
    if not np.isfinite(wave).all():
        raise Failed("the sound has values that are not finite")
    need = f"scorer {scorer!r} needs audio at {rate} Hz (got {sounds.rate} Hz)"
    at_rate = wave if rate is None else resample(wave, sounds.rate, rate, need)
    if not len(at_rate):
        raise Failed(f"the sound of {len(wave)} samples at {sounds.rate} Hz is too short for {rate} Hz")
    return at_rate
