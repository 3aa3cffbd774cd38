"""Reading a folder of FLAC or MP3 beside soundfile's own loop, and windows of a long file beside its own seeks."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from race import Contenders

FILES, SECONDS, RATE, BATCH, WINDOW = 40, 10, 44_100, 16, 10


@cache
def _folder(kind: str, files: int, seconds: int) -> Path:
    """Stereo noise under a tone, made once."""
    folder, random = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    tone = 0.4 * np.sin(np.arange(seconds * RATE) * 0.06)
    for i in range(files):
        wave = tone[:, None] + 0.1 * random.standard_normal((len(tone), 2))
        soundfile.write(folder / f"{i:04}.{kind}", wave.astype(np.float32).clip(-1, 1), RATE)
    return folder


def _ours(folder: Path, window: float | None = None) -> float:
    from evalsvc.inputs.reading_options import ReadingOptions
    from evalsvc.inputs.sample_sets import open_samples

    samples = open_samples(folder, (), ReadingOptions(window=window))
    batches = [samples.read(start, start + BATCH) for start in range(0, len(samples), BATCH)]
    return float(sum(wave.square().sum(dtype=torch.float64) for batch in batches for wave in batch.waves))


def _soundfile(folder: Path) -> float:
    total = 0.0
    for start in range(0, FILES, BATCH):
        batch = []
        for file in sorted(folder.iterdir())[start : start + BATCH]:
            values, _ = soundfile.read(file, dtype="float32")
            batch.append(torch.from_numpy((values[:, 0] + values[:, 1]) / 2))  # NumPy's mean takes half of the time
        total += float(sum(wave.square().sum(dtype=torch.float64) for wave in batch))
    return total


def _soundfile_windows(folder: Path) -> float:
    total = 0.0
    (path,) = folder.iterdir()
    with soundfile.SoundFile(path) as file:
        for _ in range(file.frames // (WINDOW * RATE)):
            values = file.read(WINDOW * RATE, dtype="float32")
            wave = torch.from_numpy((values[:, 0] + values[:, 1]) / 2)
            total += float(wave.square().sum(dtype=torch.float64))
    return total


def _whole(kind: str) -> Contenders:
    folder = _folder(kind, FILES, SECONDS)
    return {"evalsvc": lambda: _ours(folder), "soundfile": lambda: _soundfile(folder)}


def flac() -> Contenders:
    return _whole("flac")


def mp3() -> Contenders:
    return _whole("mp3")


def wav() -> Contenders:
    return _whole("wav")


def windows() -> Contenders:
    folder = _folder("flac", 1, 400)
    return {"evalsvc": lambda: _ours(folder, WINDOW), "soundfile": lambda: _soundfile_windows(folder)}
