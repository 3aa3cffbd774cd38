"""Sounds that already exist: a folder of WAV files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.io import wavfile

from evalsvc.digests import digest_path
from evalsvc.errors import InputError
from evalsvc.plugins import Modality
from evalsvc.samples import Sounds

_FULL_SCALE = {"int16": 2**15, "int32": 2**31, "float32": 1, "float64": 1}


class SoundFolder:
    """The given ``.wav`` files of a folder, of one sample rate.

    Channels are averaged to one. Integers are scaled by their full range, 8-bit files are taken as centred on 128.
    """

    modality: Modality = "audio"

    def __init__(self, path: Path, files: list[Path]) -> None:
        self._path, self._files = path, files
        self._rate, _ = self._read(self._files[0])

    def __len__(self) -> int:
        return len(self._files)

    def digest(self) -> str:
        """sha256 of the folder as it is now."""
        return digest_path(self._path)

    def read(self, start: int, stop: int) -> Sounds:
        """Sounds ``start`` to ``stop``; an unreadable file or one of another rate is an error that names it."""
        waves = []
        for file in self._files[start:stop]:
            rate, wave = self._read(file)
            if rate != self._rate:
                raise InputError(
                    f"{self._path} mixes sample rates: {file.name} has {rate} Hz where the first has {self._rate}; "
                    "resample them to one"
                )
            waves.append(wave)
        return Sounds(tuple(waves), self._rate)

    def _read(self, file: Path) -> tuple[int, torch.Tensor]:
        try:
            rate, wave = wavfile.read(file)
        except Exception as error:  # a damaged header meets SciPy unprepared: struct.error, ZeroDivisionError, ...
            raise InputError(f"{file} is no readable WAV file ({error})") from None
        if wave.dtype == np.uint8:
            wave = (wave.astype(np.float32) - 128) / 128
        elif wave.dtype.name in _FULL_SCALE:
            wave = (wave / _FULL_SCALE[wave.dtype.name]).astype(np.float32)
        else:
            raise InputError(f"{file} holds {wave.dtype} samples; 8, 16 or 32 bits are read")
        if not wave.size or not np.isfinite(wave).all():
            raise InputError(f"{file} is empty or holds NaN")
        return int(rate), torch.from_numpy(wave.mean(1) if wave.ndim == 2 else wave)
