"""DNSMOS: predicted opinion of listeners on the quality of speech, without a clean recording to compare with."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from evalsvc.builtin.extractors.audio import mel_spectrogram
from evalsvc.builtin.scorers.rows import needed
from evalsvc.builtin.scorers.sounds import Wave, score_sounds
from evalsvc.core.digests import digest_json
from evalsvc.inputs import published_weights as published
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo

RATE, SECONDS = 16_000, 9.01
"""Samples per second, and length of the windows, which begin a second apart."""
POLYNOMIALS = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)
"""From the outputs for signal, background and overall to opinions, highest power first, as published."""
PARTS = {
    "dnsmos_sig": ("signal", "信号"),
    "dnsmos_bak": ("background", "背景"),
    "dnsmos_ovr": ("overall", "总体"),
    "dnsmos_p808": ("P.808", "P.808"),
}


@open_to_clients()
@versioned("1")
class Dnsmos:
    """The plug-in ``dnsmos``: mean opinion scores, about 1 to 5, higher is better (Reddy et al. 2021, 2022).

    ``dnsmos_sig`` is the quality of the voice, ``dnsmos_bak`` the absence of background noise, ``dnsmos_ovr`` the whole
    (ITU-T P.835), and ``dnsmos_p808`` the whole by another network (P.808). Values are means over windows of 9.01 s a
    second apart; shorter sounds are repeated. The personalized variant, which punishes other voices, is not offered.
    """

    quantities = tuple(
        Quantity(name, Direction.HIGHER, "MOS", title=f"DNSMOS {part}", title_zh=f"DNSMOS {part_zh}")
        for name, (part, part_zh) in PARTS.items()
    )

    def __init__(self, device: torch.device) -> None:
        files = [published.get(name) for name in ("dnsmos-p835", "dnsmos-p808")]
        self._p835, self._p808 = (_session(each) for each in files)
        facts = {
            "audio": "16 kHz by soxr HQ, windows of 9.01 s a second apart, short sounds repeated",
            "onnxruntime": importlib.metadata.version("onnxruntime"),
        }
        weights = digest_json([each.sha256 for each in files])
        self.info = ScorerInfo("dnsmos", frozenset({"audio"}), self.quantities, weights=weights, facts=facts)

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The four opinions on each sound."""
        return score_sounds(self.info, samples, lambda row, wave: self._opinions(wave), RATE)

    def _opinions(self, wave: Wave) -> Sequence[float]:
        known: dict[bytes, list[float]] = {}  # windows of silence, and of very short sounds, are equal
        for window in (windows := list(_windows(wave))):
            if window.tobytes() not in known:
                known[window.tobytes()] = self._of_window(window)
        opinions: list[float] = np.mean([known[each.tobytes()] for each in windows], axis=0).tolist()
        return opinions

    def _of_window(self, wave: Wave) -> list[float]:
        outputs = self._p835.run(None, {"input_1": wave[None]})[0][0]
        whole = self._p808.run(None, {"input_1": _bands(wave[:-160])[None]})[0][0]
        parts = [np.polyval(power, output) for power, output in zip(POLYNOMIALS, outputs, strict=True)]
        return [*map(float, parts), float(whole[0])]


def _windows(wave: Wave) -> Iterator[Wave]:
    """The windows of a sound, a second apart; those that rounding makes one sample shorter are left out."""
    length = int(SECONDS * RATE)
    while len(wave) < length:
        wave = np.concatenate([wave, wave])
    for second in range(int(len(wave) // RATE - SECONDS) + 1):
        window = wave[second * RATE : int((second + SECONDS) * RATE)]
        if len(window) == length:
            yield window


def _bands(wave: Wave) -> Float32[np.ndarray, "f 120"]:
    """Mel bands in dB below the loudest, of which 0 to -80 become 1 to -1."""
    power = mel_spectrogram(torch.from_numpy(np.ascontiguousarray(wave)), RATE, 321, 160, 120).clamp(min=1e-10)
    decibels = 10 * torch.log10(power / power.max())
    bands: Float32[np.ndarray, "f 120"] = ((decibels.clamp(min=-80) + 40) / 40).numpy()
    return bands


def _session(weights: published.WeightFile) -> Any:
    onnxruntime = needed("onnxruntime", "dnsmos", "onnxruntime")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = torch.get_num_threads(), 1
    path = str(published.locate(weights))
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
