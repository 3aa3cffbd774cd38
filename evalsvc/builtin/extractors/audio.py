"""Shared parts of audio extractors: resampling, and mel spectrograms."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from evalsvc.core.errors import InputError
from evalsvc.inputs.sounds.decoding import resample
from evalsvc.metrics.devices import staged_together
from evalsvc.plugins.samples import Audio, Samples


def waves_at(samples: Samples, rate: int, who: str) -> list[Float[Tensor, " t"]]:
    """Waves at ``rate`` on the host, resampled by soxr at high quality if necessary."""
    if not isinstance(samples, Audio):
        raise InputError(f"extractor {who!r} requires audio samples")
    waves = staged_together(samples.waves, torch.device("cpu"))
    if samples.rate == rate:
        return waves
    need = f"extractor {who!r} needs audio at {rate} Hz (got {samples.rate} Hz)"
    return [torch.from_numpy(resample(wave.numpy(), samples.rate, rate, need)) for wave in waves]


def mel_spectrogram(wave: Float[Tensor, " t"], rate: int, window: int, step: int, bands: int) -> Float[Tensor, "f b"]:
    """Power in Slaney's mel bands of centered Hann frames, with librosa's defaults; not logarithmic."""
    frames = torch.stft(
        wave, window, step, window=torch.hann_window(window), center=True, pad_mode="constant", return_complex=True
    )
    return frames.abs().square().T @ _mel_bands(rate, window, bands).T


@lru_cache(maxsize=8)
def _mel_bands(rate: int, window: int, bands: int) -> Float[Tensor, "b k"]:
    """Triangular filters of equal area, equidistant on Slaney's scale: linear to 1 kHz, then logarithmic."""
    linear, start, ratio = 200 / 3, 1000.0, torch.log(torch.tensor(6.4, dtype=torch.float64)) / 27
    top = start / linear + torch.log(torch.tensor(rate / 2 / start, dtype=torch.float64)) / ratio
    mels = torch.linspace(0, float(top), bands + 2, dtype=torch.float64)
    corners = torch.where(mels < start / linear, linear * mels, start * torch.exp(ratio * (mels - start / linear)))
    bins = torch.arange(window // 2 + 1, dtype=torch.float64) * rate / window
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    triangles = torch.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clamp(min=0)
    return (triangles * 2 / (high - low)).float()
