"""Resemblyzer's speaker encoder: 256-dimensional speaker embeddings. Its weights are part of its PyPI package."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from evalsvc.builtin.extractors.audio import mel_spectrogram, waves_at
from evalsvc.core.digests import digest_path
from evalsvc.core.errors import CheckpointError, first_line
from evalsvc.inputs import published_weights as published
from evalsvc.metrics.devices import staged
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.registry import open_to_clients
from evalsvc.plugins.samples import Samples

RATE, WINDOW, STEP, BANDS = 16_000, 400, 160, 40
FRAMES, HOP, COVERAGE = 160, 77, 0.75
"""Frames per part, frames between parts (1.3 parts per second), and the required share of audio in the last part."""
LOUDNESS = -30.0
WIDTH = 256


class SpeakerEncoder(nn.Module):
    """Three LSTM layers and one linear layer: mel frames of a part to a non-negative vector of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, WIDTH, 3, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, mels: Float[Tensor, "n f 40"]) -> Float[Tensor, "n 256"]:
        """One vector per part."""
        _, (hidden, _) = self.lstm(mels)
        return F.normalize(self.linear(hidden[-1]).relu(), dim=1)


@open_to_clients()
class Resemblyzer:
    """The plug-in ``resemblyzer``: output ``embedding``, the normalized mean over parts of 1.6 s.

    Quiet clips are amplified to -30 dB. Unlike in its ``preprocess_wav``, silence is kept (trimming would need another
    project's voice detector), as stated in the protocol.
    """

    def __init__(self, device: torch.device, *, weights: str = "") -> None:
        path = Path(weights) if weights else published.locate(published.get("resemblyzer"))
        self._model = SpeakerEncoder()
        self._model.load_state_dict(_tensors(path))
        self._model.to(device).eval().requires_grad_(False)
        self._device = device
        self.info = ExtractorInfo(
            "resemblyzer",
            "audio",
            {"embedding": WIDTH},
            digest_path(path),
            "16 kHz by soxr HQ, at least -30 dBFS, silence kept, 40 Slaney mel bands, parts of 1.6 s, L2, float32",
            backend=f"torch-{device.type}",
        )

    @torch.inference_mode()
    def extract(self, samples: Samples) -> dict[str, Float[Tensor, "n d"]]:
        """One embedding per clip of any length."""
        return {"embedding": torch.stack([self._embed(wave) for wave in waves_at(samples, RATE, "resemblyzer")])}

    def _embed(self, wave: Tensor) -> Tensor:
        wave = _louder(wave)
        starts = _parts(len(wave))
        end = (starts[-1] + FRAMES) * STEP
        mels = mel_spectrogram(F.pad(wave, (0, max(0, end - len(wave)))), RATE, WINDOW, STEP, BANDS)
        parts = staged(torch.stack([mels[start : start + FRAMES] for start in starts]), self._device)
        return F.normalize(self._model(parts).mean(0), dim=0)


def _louder(wave: Tensor) -> Tensor:
    power = float(wave.square().mean())
    return wave * max(1.0, 10 ** (LOUDNESS / 20) / math.sqrt(power)) if power > 0 else wave


def _parts(length: int) -> list[int]:
    """First frames of the parts; a last part with too little audio is dropped, unless it is the only one."""
    frames = math.ceil((length + 1) / STEP)
    starts = list(range(0, max(1, frames - FRAMES + HOP + 1), HOP))
    covered = (length - starts[-1] * STEP) / (FRAMES * STEP)
    return starts[:-1] if covered < COVERAGE and len(starts) > 1 else starts


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        return {name: tensor for name, tensor in state.items() if name.split(".")[0] in ("lstm", "linear")}
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, AttributeError, TypeError, OSError) as error:
        raise CheckpointError(f"{path} is not a Resemblyzer checkpoint ({first_line(error, 160)})") from None
